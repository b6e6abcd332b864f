"""What the router's tests share: a router on real sockets, a real gRPC controller, raw pods."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop
from grpclib import GRPCError, Status
from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.server import RpcServer
from sanfran_proto.sanfran import v1 as pb
from sanfran_router.config import RouterConfig
from sanfran_router.control import ControllerLink
from sanfran_router.listen import listen
from sanfran_router.plane import DataPlane
from sanfran_router.server import Listener, listening
from sanfran_router.table import Table
from sanfran_router.worker import build_plane

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the services run on."""
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Answer:
    """One answer as a client got it."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    @property
    def code(self) -> str:
        """The word for programs in an error's JSON."""
        return str(json.loads(self.body)["error"]["code"])

    def header(self, name: str) -> str | None:
        found = self.headers(name)
        return found[0] if found else None

    def headers(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        pairs = (line.partition(b":") for line in self.head.split(b"\r\n")[1:])
        return [value.strip().decode() for key, _, value in pairs if key.lower() == wanted]


class Client:
    """A raw HTTP client: sends what it is told, and reads answers strictly."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def get(self, target: str = "/fn/hello", *lines: str, method: str = "GET") -> None:
        head = [f"{method} {target} HTTP/1.1", "Host: test", *lines, "", ""]
        self.send("\r\n".join(head).encode())

    def post(self, body: bytes, *lines: str, target: str = "/fn/hello") -> None:
        self.get(target, *lines, f"Content-Length: {len(body)}", method="POST")
        self.send(body)

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self, *, to_head: bool = False) -> Answer:
        """The next answer, its body decoded; `IncompleteReadError` when it breaks off."""
        answer = Answer(await self.head(), b"")
        if to_head or answer.status in (204, 304) or answer.status < 200:
            return answer
        length, coding = answer.header("content-length"), answer.header("transfer-encoding")
        if coding is not None:
            assert coding == "chunked"
            assert length is None
            while size := int((await self.reader.readuntil(b"\r\n")).partition(b";")[0], 16):
                answer.body += await self.reader.readexactly(size)
                assert await self.reader.readexactly(2) == b"\r\n"
            while await self.reader.readuntil(b"\r\n") != b"\r\n":
                pass
        elif length is not None:
            answer.body = await self.reader.readexactly(int(length))
        else:
            answer.body = await self.reader.read()
        return answer

    async def closed(self) -> bytes:
        """What comes until the connection is closed."""
        return await self.reader.read()

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()


class PodConnection:
    """One connection as a pod sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = b""

    def header(self, name: str) -> str | None:
        return Answer(self.head, b"").header(name)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def body(self) -> bytes:
        """The request's body, decoded."""
        if self.header("expect"):
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.header("transfer-encoding"):
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += await self.reader.readexactly(size + 2)
                body = body[:-2]
            while await self.reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return body
        return await self.reader.readexactly(int(self.header("content-length") or 0))

    def reset(self) -> None:
        self.writer.transport.abort()


Handler = Callable[[PodConnection], Awaitable[None]]


async def answer_ok(connection: PodConnection) -> None:
    await connection.body()
    connection.send(OK)


class Pod:
    """An HTTP server that does what the test says, and fences as the runtime does."""

    def __init__(self, activation: str, handler: Handler) -> None:
        self.activation = activation
        self.handler = handler
        self.heads: list[bytes] = []
        self.connections: list[PodConnection] = []
        self.left = asyncio.Event()
        """A connection has ended."""
        self.address = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def endpoint(self) -> pb.Endpoint:
        return pb.Endpoint(address=self.address, activation_id=self.activation, pod=self.activation)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = PodConnection(reader, writer)
        self.connections.append(connection)
        try:
            while True:
                connection.head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(connection.head)
                if connection.header("x-sanfran-activation") != self.activation:
                    connection.send(
                        b"HTTP/1.1 421 Misdirected Request\r\nx-sanfran-retry: fenced\r\n"
                        b"Content-Length: 0\r\n\r\n"
                    )
                    continue
                await self.handler(connection)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.left.set()
            self._tasks.discard(task)
            writer.close()

    async def stop(self) -> None:
        """As a process that dies: nothing answers at its address any more."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for connection in self.connections:
            connection.reset()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await server.wait_closed()


class Controller(pb.ControllerBase):
    """A controller in the test's hands."""

    def __init__(self) -> None:
        self.id = "controller-1"
        self.routes: dict[str, pb.Route] = {}
        self.asked: list[pb.ActivateFunctionRequest] = []
        self.on_activate: Callable[[str], Awaitable[pb.Route]] | None = None
        self.reports: asyncio.Queue[pb.LoadReport] = asyncio.Queue()
        self._sequence = 0
        self._watchers: set[asyncio.Queue[pb.RouteEvent]] = set()

    def route(self, *pods: Pod, name: str = "hello", **more: object) -> pb.Route:
        self._sequence += 1
        settings: dict[str, object] = {"version": 1, "concurrency": 100, "timeout_ms": 5000, **more}
        self.routes[name] = pb.Route(
            name=name,
            sequence=self._sequence,
            controller=self.id,
            endpoints=[pod.endpoint() for pod in pods],
            **settings,  # type: ignore[arg-type]
        )
        return self.routes[name]

    def publish(self, *pods: Pod, name: str = "hello", **more: object) -> None:
        route = self.route(*pods, name=name, **more)
        for watcher in self._watchers:
            watcher.put_nowait(pb.RouteEvent(route=route))

    async def watch_routes(self, message: pb.WatchRoutesRequest) -> AsyncIterator[pb.RouteEvent]:
        watcher: asyncio.Queue[pb.RouteEvent] = asyncio.Queue()
        self._watchers.add(watcher)
        try:
            for route in list(self.routes.values()):
                yield pb.RouteEvent(route=route)
            yield pb.RouteEvent(synced=pb.RoutesSynced(controller=self.id))
            while True:
                yield await watcher.get()
        finally:
            self._watchers.discard(watcher)

    async def activate(self, message: pb.ActivateFunctionRequest) -> pb.Route:
        self.asked.append(message)
        if self.on_activate is None:
            raise GRPCError(Status.NOT_FOUND, "no such function")
        return await self.on_activate(message.name)

    async def report_load(self, message: pb.LoadReport) -> pb.LoadReportResponse:
        self.reports.put_nowait(message)
        return pb.LoadReportResponse()


@dataclass
class World:
    """A controller, its router, and the pods and clients that the test adds."""

    stack: AsyncExitStack
    folder: Path
    controller: Controller = field(default_factory=Controller)
    rpc: RpcServer | None = None
    plane: DataPlane = None  # type: ignore[assignment]
    listener: Listener = None  # type: ignore[assignment]
    link: ControllerLink = None  # type: ignore[assignment]
    ok: bytes = OK

    @property
    def rpc_address(self) -> str:
        return f"unix:{self.folder}/controller.sock"

    async def start_controller(self) -> None:
        self.rpc = RpcServer([self.controller], self.rpc_address)
        await self.rpc.__aenter__()

    async def stop_controller(self) -> None:
        if self.rpc is not None:
            rpc, self.rpc = self.rpc, None
            await rpc.__aexit__(None, None, None)

    async def start_router(self, api: RpcClient | None = None, **settings: object) -> None:
        config = RouterConfig(
            listen="127.0.0.1:0",
            controllers=self.rpc_address,
            **settings,  # type: ignore[arg-type]
        )
        enter = self.stack.enter_async_context
        client = await enter(RpcClient(config.controllers))
        tasks = await enter(OwnedTasks("router"))
        self.link = ControllerLink(client, Table(), "router-1")
        self.plane = build_plane(config, self.link, tasks, api=api)
        self.listener = await enter(listening(self.plane, listen(config.listen, 1)[0]))
        await self.listener.accept()
        tasks.loop(self.link.watch(tasks, self.plane.activator), name="watch")
        tasks.loop(self.link.report(), name="report")
        if self.rpc is not None:
            await self.link.synced.wait()

    async def pod(self, handler: Handler = answer_ok, *, activation: str = "act-1") -> Pod:
        pod = Pod(activation, handler)
        await pod.start()
        self.stack.push_async_callback(pod.stop)
        return pod

    async def pod_at(self, address: str, *, activation: str) -> Pod:
        """Another process at an address that was used before."""
        pod = Pod(activation, answer_ok)
        await pod.start(int(address.rpartition(":")[2]))
        self.stack.push_async_callback(pod.stop)
        return pod

    async def client(self, *, receive_buffer: int | None = None) -> Client:
        host, port = self.listener.address.split(":")
        limit = receive_buffer or 1 << 16
        reader, writer = await asyncio.open_connection(host, int(port), limit=limit)
        client = Client(reader, writer)
        self.stack.callback(client.abort)
        return client

    async def serving(self, handler: Handler = answer_ok, **settings: object) -> Pod:
        """Controller, pod and router: /fn/hello answers with the handler."""
        pod = await self.pod(handler)
        self.controller.route(pod)
        await self.start_controller()
        await self.start_router(**settings)
        return pod

    async def seen(self, condition: Callable[[], object]) -> None:
        """Waits for what no event tells."""
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path leaves room for Unix sockets in it."""
    path = Path(tempfile.mkdtemp(prefix="sf-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def full_backlog() -> Iterator[str]:
    """An address where connections are neither accepted nor refused."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[World]:
    """See `World`. Nothing of it may be left running, and no test may hang."""
    async with asyncio.timeout(20):
        async with AsyncExitStack() as stack:
            it = World(stack, folder)
            stack.push_async_callback(it.stop_controller)
            yield it
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in left if "router" in task.get_name()]
