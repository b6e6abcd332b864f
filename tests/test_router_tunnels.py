"""WebSockets through a router process, between Node's own client and a server of a few lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.parts import node_binary, router
from tests.peers import Functions, memory, peak_memory

MB = 1 << 20

SERVER = """
// RFC 6455, as much of it as the tests need: unfragmented frames of a client, masked.
const http = require('node:http');
const { createHash } = require('node:crypto');
const frame = (opcode, data) => {
  const head = Buffer.alloc(data.length < 126 ? 2 : 10);
  head[0] = 0x80 | opcode;
  if (data.length < 126) head[1] = data.length;
  else { head[1] = 127; head.writeBigUInt64BE(BigInt(data.length), 2); }
  return [head, data];
};
http.createServer().on('upgrade', (request, socket) => {
  const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\n'
    + 'Connection: Upgrade\\r\\nSec-WebSocket-Accept: '
    + createHash('sha1').update(key).digest('base64') + '\\r\\n\\r\\n');
  const send = (opcode, data) => frame(opcode, data).forEach((part) => socket.write(part));
  const on = (opcode, data) => {
    const word = data.length < 20 ? String(data) : '';
    if (opcode === 8) socket.end(Buffer.concat(frame(8, data)));
    else if (word === 'bye') send(8, Buffer.from([0x0f, 0xa1]));  // 4001
    else if (word === 'die') process.kill(process.pid, 'SIGKILL');
    else send(opcode, data);
  };
  let held = Buffer.alloc(0), pieces = [], left = 0, opcode = 0, mask, at = 0;
  socket.on('data', (data) => {
    held = Buffer.concat([held, data]);
    for (;;) {
      if (mask) {
        const piece = held.subarray(0, left);
        for (let i = 0; i < piece.length; i++) piece[i] ^= mask[(at + i) & 3];
        pieces.push(piece); at += piece.length; left -= piece.length;
        held = held.subarray(piece.length);
        if (left) return;
        mask = undefined;
        on(opcode, Buffer.concat(pieces));
      }
      if (held.length < 2) return;
      const short = held[1] & 127, extra = short === 127 ? 8 : short === 126 ? 2 : 0;
      if (held.length < 6 + extra) return;
      left = extra === 8 ? Number(held.readBigUInt64BE(2)) : extra ? held.readUInt16BE(2) : short;
      opcode = held[0] & 15; mask = held.subarray(2 + extra, 6 + extra); pieces = []; at = 0;
      held = held.subarray(6 + extra);
    }
  });
  socket.on('end', () => socket.end()).on('close', () => console.log('left'));
  socket.on('error', () => {});
}).listen(0, '127.0.0.1', function () { console.log(this.address().port); });
"""

CLIENT = """
const [url, what] = process.argv.slice(1);
const socket = new WebSocket(url);
socket.binaryType = 'arraybuffer';
const next = () => new Promise((resolve, reject) => {
  socket.onmessage = (event) => resolve(event.data);
  socket.onerror = () => reject(new Error('error'));
  socket.onclose = (event) => reject(new Error(`closed ${event.code}`));
});
const closed = () => new Promise((resolve) => {
  socket.onerror = () => {};
  socket.onclose = (event) => resolve([event.code, event.wasClean]);
});
const opened = () => new Promise((resolve, reject) => {
  socket.onopen = resolve; socket.onerror = () => reject(new Error('not opened'));
});
const deeds = {
  async echo() {
    const got = [];
    for (const word of ['', 'a', 'ü'.repeat(200)]) { socket.send(word); got.push(await next()); }
    return got;
  },
  async big() {
    const size = 24 * 1024 * 1024, data = new Uint8Array(size);
    for (let i = 0; i < size; i += 4096) data[i] = i / 4096;
    const all = [];
    for (let round = 0; round < 2; round++) {
      socket.send(data);
      const got = new Uint8Array(await next());
      all.push(Buffer.compare(got, data) === 0);
    }
    return all;
  },
  async closes() { const ended = closed(); socket.close(4000, 'enough'); return ended; },
  async is_closed() { const ended = closed(); socket.send('bye'); return ended; },
  async dies() { const ended = closed(); socket.send('die'); return ended; },
  async waits() { console.log('"open"'); return new Promise(() => setInterval(() => {}, 1000)); },
};
opened().then(deeds[what]).then(
  (result) => { console.log(JSON.stringify(result)); socket.close(); },
  (error) => { console.log(JSON.stringify(String(error))); process.exit(1); });
"""


class Server:
    """A Node process with WebSockets, and a router before it."""

    def __init__(self, process: asyncio.subprocess.Process, address: str, pid: int) -> None:
        self.process = process
        self.url = f"ws://{address}/fn/hello/socket"
        self.router = pid

    async def client_left(self) -> None:
        """Returns when a client's connection has ended, as the server sees it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            assert await self.process.stdout.readline() == b"left\n"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with node(SERVER) as process:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        controller = Functions({"hello": f"127.0.0.1:{port}"})
        async with router(controller, tmp_path) as routing:
            yield Server(process, routing.address, routing.pid)


@contextlib.asynccontextmanager
async def node(code: str, *args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        node_binary(), "-e", code, *args, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def result(server: Server, deed: str) -> object:
    """What the client says of what it did."""
    async with node(CLIENT, server.url, deed) as client:
        assert client.stdout is not None
        async with asyncio.timeout(60):
            return json.loads(await client.stdout.readline())


async def test_messages_come_back(server: Server) -> None:
    assert await result(server, "echo") == ["", "a", "ü" * 200]
    await server.client_left()


async def test_messages_of_24_mb_pass_both_ways_in_little_memory(server: Server) -> None:
    before = memory(server.router)
    assert await result(server, "big") == [True, True]
    assert peak_memory(server.router) - before < 16 * MB


async def test_either_side_may_close(server: Server) -> None:
    assert await result(server, "closes") == [4000, True]
    await server.client_left()
    assert await result(server, "is_closed") == [4001, True]
    await server.client_left()


async def test_a_server_that_dies_is_an_unclean_end(server: Server) -> None:
    assert await result(server, "dies") == [1006, False]


async def test_a_client_that_dies_ends_the_servers_connection(server: Server) -> None:
    async with node(CLIENT, server.url, "waits") as client:
        assert client.stdout is not None
        assert await client.stdout.readline() == b'"open"\n'
        client.kill()
        await server.client_left()
