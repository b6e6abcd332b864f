"""A pod that dies in the middle of an answer leaves every client with an error, never a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import shutil
import socket
from pathlib import Path

import httpx
import pytest

from tests.parts import node_binary, router, runtime
from tests.peers import Functions, Reader, Writer, pod, read_request, reset

KILL = "() => process.kill(process.pid, 'SIGKILL')"
DIES = {
    "length": f"res.set('Content-Length', '1000000'); res.write('half', {KILL});",
    "chunks": f"res.write('half', {KILL});",
}
"""Handlers that say something and are killed when it is on its way."""


async def by_http_client(url: str) -> bytes:
    """Python's own, blocking."""

    def read() -> bytes:
        host = url.removeprefix("http://").partition("/")[0]
        connection = http.client.HTTPConnection(host, timeout=30)
        try:
            connection.request("GET", url)
            return connection.getresponse().read()
        finally:
            connection.close()

    return await asyncio.to_thread(read)


async def by_httpx(url: str) -> bytes:
    async with httpx.AsyncClient(timeout=30) as client:
        return (await client.get(url)).content


async def by_process(*command: str | Path) -> bytes:
    """A client that ends with 0 when it got a whole answer."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise ConnectionError(f"{command[0]}: {process.returncode}")
    return out


async def by_curl(url: str) -> bytes:
    return await by_process("curl", "-s", "--max-time", "30", url)


async def by_curl_1_0(url: str) -> bytes:
    """An HTTP/1.0 client: its answer ends with the connection, whatever the pod's framing is."""
    return await by_process("curl", "-s", "--http1.0", "--max-time", "30", url)


NODE_HTTP = """
const http = require('node:http');
http.get(process.argv[1], (answer) => {
  answer.on('data', (data) => process.stdout.write(data));
  answer.on('end', () => { process.exitCode = answer.complete ? 0 : 3; });
  answer.on('error', () => process.exit(2));
}).on('error', () => process.exit(1));
"""
NODE_FETCH = """
fetch(process.argv[1]).then((got) => got.text())
  .then((text) => process.stdout.write(text), () => process.exit(1));
"""


async def by_node_http(url: str) -> bytes:
    return await by_process(node_binary(), "-e", NODE_HTTP, url)


async def by_node_fetch(url: str) -> bytes:
    return await by_process(node_binary(), "-e", NODE_FETCH, url)


CLIENTS = {
    "http-client": by_http_client,
    "httpx": by_httpx,
    "node-http": by_node_http,
    "node-fetch": by_node_fetch,
}
if shutil.which("curl") is not None:
    CLIENTS |= {"curl": by_curl, "curl-1-0": by_curl_1_0}
TAKES_A_RESET_FOR_AN_END = {"node-fetch"}
"""Of a body that ends with its connection (undici does so on purpose): nothing could tell it."""
BROKEN = (ConnectionError, http.client.HTTPException, httpx.TransportError)


@pytest.mark.parametrize("framing", DIES)
async def test_a_process_killed_within_its_answer_is_an_error_for_every_client(
    tmp_path: Path, framing: str
) -> None:
    code = f"module.exports = (req, res) => {{ {DIES[framing]} }};"
    async with contextlib.AsyncExitStack() as stack:
        addresses = {}
        for name in CLIENTS:
            folder = tmp_path / name
            folder.mkdir()
            started = await stack.enter_async_context(runtime(folder, f"id-{name}", name, code))
            addresses[name] = started.address
        routing = await stack.enter_async_context(router(Functions(addresses), tmp_path))
        for name, read in CLIENTS.items():
            with pytest.raises(BROKEN):
                await read(f"http://{routing.address}/fn/{name}")


async def test_a_body_that_ends_with_its_connection_is_broken_by_the_pods_reset(
    tmp_path: Path,
) -> None:
    async def handler(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        # More than fits into buffers that nobody has read from yet: the router is at it when the
        # kernel has taken all.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        writer.transport.set_write_buffer_limits(0)
        writer.write(b"x" * 1_000_000)
        await writer.drain()
        reset(writer)

    async with pod(handler) as at, router(Functions({"hello": at}), tmp_path) as routing:
        for name in CLIENTS.keys() - TAKES_A_RESET_FOR_AN_END:
            with pytest.raises(BROKEN):
                await CLIENTS[name](f"http://{routing.address}/fn/hello")


async def test_the_same_clients_take_whole_answers_for_whole(tmp_path: Path) -> None:
    """What the tests above rely on."""
    folder = tmp_path / "pod"
    folder.mkdir()
    code = "module.exports = (req, res) => { res.write('all of '); res.end('it'); };"
    async with (
        runtime(folder, "id-hello", "hello", code) as started,
        router(Functions({"hello": started.address}), tmp_path) as routing,
    ):
        for read in CLIENTS.values():
            assert await read(f"http://{routing.address}/fn/hello") == b"all of it"
