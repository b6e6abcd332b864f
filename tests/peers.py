"""Both ends of a router in a test's hands: a controller of several functions, and pods and clients on
raw sockets, which do what no HTTP library would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
from grpclib import GRPCError, Status
from sanfran_proto.sanfran import v1 as pb

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Handler = Callable[[Reader, Writer], Awaitable[None]]


class Functions(pb.ControllerBase):
    """A controller that knows where functions run, and has no more pods for them.

    Args:
        addresses: of the one pod of each function, by name.
        concurrency: requests at once, of each function.
        timeout: seconds, of each function.
    """

    def __init__(
        self, addresses: dict[str, str], *, concurrency: int = 1000, timeout: float = 60.0
    ) -> None:
        self._routes = [
            pb.Route(
                name=name,
                version=1,
                sequence=1,
                controller="played",
                timeout_ms=int(timeout * 1000),
                concurrency=concurrency,
                endpoints=[pb.Endpoint(address=address, activation_id=f"id-{name}", pod=name)],
            )
            for name, address in addresses.items()
        ]

    async def activate(self, message: pb.ActivateFunctionRequest) -> pb.Route:
        for route in self._routes:
            if route.name == message.name and not message.saturated:
                return route
        raise GRPCError(Status.RESOURCE_EXHAUSTED, "no more pods")

    async def watch_routes(self, message: pb.WatchRoutesRequest) -> AsyncIterator[pb.RouteEvent]:
        for route in self._routes:
            yield pb.RouteEvent(route=route)
        yield pb.RouteEvent(synced=pb.RoutesSynced(controller="played"))
        await asyncio.Event().wait()

    async def report_load(self, message: pb.LoadReport) -> pb.LoadReportResponse:
        return pb.LoadReportResponse()


@contextlib.asynccontextmanager
async def pod(handler: Handler) -> AsyncIterator[str]:
    """A pod that does with each connection what the handler says; gives its address."""

    async def serve(reader: Reader, writer: Writer) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await handler(reader, writer)
        finally:
            writer.close()

    async with asyncio.TaskGroup() as group:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: Reader, writer: Writer) -> None:
            task = group.create_task(serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=1024)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in tasks:
                task.cancel()


async def answer_ok(reader: Reader, writer: Writer) -> None:
    """A pod's connection on which every request is answered at once, its body read before."""
    while True:
        await read_request(reader)
        writer.write(OK)


async def read_request(reader: Reader) -> bytes:
    """A request's head; its body of known length is read and dropped."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.partition(b":")[2]))
    return head


async def connect(address: str, **options: int) -> tuple[Reader, Writer]:
    """A client's connection.

    Args:
        address: host:port.
        options: of the socket, by the names of their constants: SO_RCVBUF=4096.
    """
    loop = asyncio.get_running_loop()
    end = socket.socket()
    try:
        for name, value in options.items():
            end.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        end.setblocking(False)
        host, port = address.split(":")
        await loop.sock_connect(end, (host, int(port)))
        return await asyncio.open_connection(sock=end)
    except BaseException:
        end.close()
        raise


def request(target: str = "/fn/hello", *lines: str, method: str = "GET") -> bytes:
    """A request's head."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: test", *lines, "", ""]).encode()


class Answer:
    """What a client read."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.head = head
        self.body = body
        self.status = int(head.split(b" ", 2)[1])

    @property
    def code(self) -> str:
        """The word for programs in an error's JSON."""
        error: dict[str, Any] = json.loads(self.body)["error"]
        return str(error["code"])

    def header(self, name: str) -> str | None:
        """The header's first value."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.lower() == name.lower().encode():
                return value.strip().decode()
        return None


async def read_answer(reader: Reader) -> Answer:
    """The next answer, one with a Content-Length."""
    answer = Answer(await reader.readuntil(b"\r\n\r\n"), b"")
    answer.body = await reader.readexactly(int(answer.header("content-length") or 0))
    return answer


async def call(address: str, target: str = "/fn/hello", *lines: str) -> Answer:
    """One GET on a connection of its own."""
    reader, writer = await connect(address)
    try:
        writer.write(request(target, *lines))
        return await read_answer(reader)
    finally:
        writer.close()


def reset(writer: Writer) -> None:
    """Ends a connection with an RST."""
    end = writer.get_extra_info("socket")
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def memory(pid: int) -> int:
    """Bytes of RAM of a process and all below it now."""
    return sum(_status(process.pid, "VmRSS") for process in tree(pid))


def peak_memory(pid: int) -> int:
    """The most that they ever had, each by itself."""
    return sum(_status(process.pid, "VmHWM") for process in tree(pid))


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{field} of {pid} is not told")


def cpu_seconds(pid: int) -> float:
    """CPU time that a process and all below it have used."""
    times = [process.cpu_times() for process in tree(pid)]
    return sum(one.user + one.system for one in times)
