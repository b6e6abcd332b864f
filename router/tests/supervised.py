"""A router as a command: its supervisor's process, and its workers."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil

World = Any
PodConnection = Any

GET = b"GET /fn/hello HTTP/1.1\r\nHost: a\r\n\r\n"
LAST_GET = b"GET /fn/hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Router:
    """A running supervisor with its workers."""

    def __init__(self, process: asyncio.subprocess.Process, told: dict[str, str]) -> None:
        self.process = process
        self.http = told["X_SANFRAN_HTTP"]
        self.admin = told["X_SANFRAN_ADMIN"]

    @property
    def workers(self) -> list[int]:
        """Process ids."""
        return [one.pid for one in psutil.Process(self.process.pid).children()]

    async def connect(self, address: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = (address or self.http).split(":")
        return await asyncio.open_connection(host, int(port))

    async def ask(self, raw: bytes = LAST_GET, address: str = "") -> bytes:
        """What comes until the connection is closed."""
        reader, writer = await self.connect(address)
        writer.write(raw)
        answer = await reader.read()
        writer.close()
        return answer

    async def metrics(self) -> dict[str, float]:
        """Values by series."""
        raw = await self.ask(b"GET /metrics HTTP/1.0\r\n\r\n", self.admin)
        lines = raw.partition(b"\r\n\r\n")[2].decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    async def replaced(self, world: World, former: list[int]) -> None:
        """Waits until none of these workers is left, and as many others serve."""
        await world.seen(lambda: not set(former) & set(self.workers))
        await world.seen(lambda: len(self.workers) == len(former))


@asynccontextmanager
async def router(
    world: World, *flags: str, listen: str = "127.0.0.1:0", **streams: int
) -> AsyncIterator[Router]:
    """A ready router. Its workers end with it, also when the test has failed."""
    path = f"{world.folder}/notify-{listen.rpartition(':')[2]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.setblocking(False)
        command = [sys.executable, "-m", "sanfran_router.main", "--listen", listen]
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--controllers", world.rpc_address, *flags),
            env={**os.environ, "NOTIFY_SOCKET": path},
            **streams,
        )
        try:
            message = await asyncio.get_running_loop().sock_recv(notify, 4096)
            yield Router(
                process, dict(line.split("=", 1) for line in message.decode().splitlines())
            )
        finally:
            if process.returncode is None:
                workers = psutil.Process(process.pid).children()
                process.kill()
                # Without their supervisor they end by themselves.
                await ended(world, workers)
            await process.communicate()


async def ended(world: World, processes: list[psutil.Process]) -> None:
    await world.seen(lambda: not any(one.is_running() for one in processes))


async def serving(world: World, handler: Any = None) -> Any:
    pod = await (world.pod(handler) if handler else world.pod())
    world.controller.route(pod, concurrency=1000)
    await world.start_controller()
    return pod


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """One request on a kept connection; returns the answer's head."""
    writer.write(GET)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    assert await reader.readexactly(2) == b"ok"
    return head
