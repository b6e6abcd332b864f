"""What the sidecar's tests share: bundles, an api that serves them, pods on real Node processes."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil
import pytest
import uvloop
from grpclib import GRPCError, Status
from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.server import RpcServer
from sanfran_proto.sanfran import v1 as pb
from sanfran_sidecar.cache import DigestCache
from sanfran_sidecar.fetch import ApiBundles
from sanfran_sidecar.folders import RunFolder
from sanfran_sidecar.parts import RUNTIME
from sanfran_sidecar.pod import Pod
from sanfran_sidecar.process import NodeLauncher, find_node
from sanfran_sidecar.runtime import RuntimeStarter
from sanfran_sidecar.service import Sidecar
from sanfran_sidecar.strays import NoStrays
from sanfran_sidecar.unpack import Limits

HELLO = "module.exports = (req, res) => res.send('Hello ' + req.query.name)\n"
DOUBLE = Path(__file__).with_name("runtime_double.cjs")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the services run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for Unix sockets in it."""
    path = Path(tempfile.mkdtemp(prefix="sf-"))
    yield path
    subprocess.run(["chmod", "-R", "u+rwX", str(path)], check=True)
    shutil.rmtree(path)


def pack(files: dict[str, str | bytes]) -> bytes:
    """A tar as the api service makes it."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return made.getvalue()


class FakeApi(pb.ApiBase):
    """The api's bundles, over real gRPC, and ways to be slow and wrong."""

    def __init__(self) -> None:
        self.bundles: dict[str, bytes] = {}
        self.fetches: list[str] = []
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    def function(
        self,
        source: str | dict[str, str | bytes] = HELLO,
        *,
        name: str = "hello",
        version: int = 1,
        env: dict[str, str] | None = None,
        secrets: dict[str, str] | None = None,
    ) -> pb.FunctionVersion:
        """Stores a function and gives its description."""
        files: dict[str, str | bytes] = (
            {"function.js": source} if isinstance(source, str) else source
        )
        bundle = pack(files)
        digest = hashlib.sha256(bundle).hexdigest()
        self.bundles[digest] = bundle
        return pb.FunctionVersion(
            name=name,
            version=version,
            digest=digest,
            bundle_bytes=len(bundle),
            entry=next(iter(files)),
            settings=pb.FunctionSettings(env=env or {}, secrets=secrets or {}),
        )

    async def fetch_bundle(self, message: pb.FetchBundleRequest) -> AsyncIterator[pb.BundleChunk]:
        self.fetches.append(message.digest)
        self.asked.set()
        await self.go_on.wait()
        try:
            bundle = self.bundles[message.digest]
        except KeyError:
            raise GRPCError(Status.NOT_FOUND, "no such bundle") from None
        for at in range(0, len(bundle), 65536):
            yield pb.BundleChunk(data=bundle[at : at + 65536])


class Bench:
    """One machine: an api, a bundle cache, and pods with their gRPC services."""

    def __init__(self, path: Path, stack: AsyncExitStack, tasks: OwnedTasks) -> None:
        self.path = path
        self.api = FakeApi()
        self.run = RunFolder(path / "run")
        self.cache_folder = path / "bundles"
        self._stack = stack
        self._tasks = tasks
        self.pods: list[Pod] = []
        self.running: list[asyncio.Task[None]] = []

    async def open(self, *, fetch_timeout: float = 5.0, cache_bytes: int = 1 << 30) -> None:
        """Starts the api and the cache."""
        self.api_server = await self._stack.enter_async_context(
            RpcServer([self.api], f"unix:{self.path}/api.sock")
        )
        client = await self._stack.enter_async_context(RpcClient(self.api_server.address))
        source = ApiBundles(pb.ApiStub(client.channel), fetch_timeout)
        self._stack.enter_context(self.run)
        self.cache = await self._stack.enter_async_context(
            DigestCache(self.cache_folder, cache_bytes, source, Limits(1 << 20, 1000))
        )

    async def pod(
        self,
        name: str = "pod-1",
        *,
        fault: str | None = None,
        start_timeout: float = 10.0,
        load_timeout: float = 10.0,
        log_lines: int = 1000,
    ) -> tuple[pb.SidecarStub, Pod]:
        """Starts a pod on real Node; with a fault, on the double."""
        script = RUNTIME
        if fault is not None:
            script = self.path / f"fault-{name}.cjs"
            script.write_text(f"globalThis.FAULT = {fault!r}; require({str(DOUBLE)!r});\n")
        starter = RuntimeStarter(
            NodeLauncher(find_node(), script, "127.0.0.1", NoStrays()),
            self.run,
            http_host="127.0.0.1",
            timeout=start_timeout,
            at_once=2,
        )
        pod = Pod(
            name,
            starter,
            self.cache,
            load_timeout=load_timeout,
            log_lines=log_lines,
        )
        self.pods.append(pod)
        server = await self._stack.enter_async_context(
            RpcServer([Sidecar(pod)], f"unix:{self.path}/{name}.sock")
        )
        client = await self._stack.enter_async_context(RpcClient(server.address))
        self.running.append(self._tasks.spawn(pod.run(), name=name))
        return pb.SidecarStub(client.channel), pod

    async def generic(self, name: str = "pod-1", **options: object) -> tuple[pb.SidecarStub, Pod]:
        """A pod that is generic."""
        stub, pod = await self.pod(name, **options)  # type: ignore[arg-type]  # passed through
        await self.phase(stub, pb.PodPhase.GENERIC)
        return stub, pod

    def left(self) -> list[str]:
        """Names in the run folder that a pod's process made."""
        return sorted(entry.name for entry in self.run.path.glob("pod-*"))

    @staticmethod
    async def phase(
        stub: pb.SidecarStub, wanted: pb.PodPhase, seconds: float = 10.0
    ) -> pb.PodState:
        """Waits until the pod is there, or gone."""
        async with asyncio.timeout(seconds):
            async for state in stub.watch_state(pb.GetStateRequest()):
                if state.phase in (wanted, pb.PodPhase.GONE):
                    assert state.phase is wanted, state
                    return state
        raise AssertionError("the stream ended")

    @staticmethod
    async def said(stub: pb.SidecarStub, text: str) -> None:
        """Waits until the function has written that line."""
        async with asyncio.timeout(10):
            async for line in stub.stream_logs(pb.PodLogsRequest(follow=True)):
                if line.text == text:
                    return
        raise AssertionError("the stream ended")

    @staticmethod
    def order(activation_id: str, function: pb.FunctionVersion) -> pb.ActivatePodRequest:
        """What a controller sends."""
        return pb.ActivatePodRequest(activation_id=activation_id, function=function)

    @staticmethod
    async def get(address: str, path: str, activation_id: str) -> tuple[int, str]:
        """A request as the router sends it: status and body."""
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                f"x-sanfran-activation: {activation_id}\r\nx-request-id: r1\r\n\r\n".encode()
            )
            async with asyncio.timeout(10):
                answer = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    @staticmethod
    def node_pid(pod: Pod) -> int:
        """The pid of the pod's Node process, found as the kernel sees it."""
        marker = f"SANFRAN_CONTROL={pod._runtime._folder.control}"  # type: ignore[union-attr]
        for child in psutil.Process().children():
            if marker in Path(f"/proc/{child.pid}/environ").read_text():
                return child.pid
        raise AssertionError("no process")


@asynccontextmanager
async def machine(path: Path, **options: object) -> AsyncIterator[Bench]:
    """A `Bench` that ends all pods when it is left."""
    async with AsyncExitStack() as stack:
        tasks = OwnedTasks("test")
        bench = Bench(path, stack, tasks)
        await bench.open(**options)  # type: ignore[arg-type]  # passed through
        async with tasks:
            yield bench
            for pod in bench.pods:
                pod.end("test over")
            if bench.running:
                await asyncio.wait(bench.running)


@pytest.fixture
async def bench(short_path: Path) -> AsyncIterator[Bench]:
    """A machine without pods."""
    async with machine(short_path) as made:
        yield made
    assert made.left() == []


class Service:
    """One of our commands as a process of its own, told ready by the sd_notify protocol."""

    def __init__(self, process: asyncio.subprocess.Process, facts: dict[str, str]) -> None:
        self.process = process
        self.facts = facts

    @property
    def rpc(self) -> str:
        """Its gRPC address."""
        return self.facts["X_SANFRAN_RPC"]

    async def stop(self, which: signal.Signals = signal.SIGTERM) -> int:
        """Ends it; returns its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(which)
        async with asyncio.timeout(10):
            return await self.process.wait()


StartService = Callable[..., Awaitable[Service]]


@pytest.fixture
async def start_service(short_path: Path) -> AsyncIterator[StartService]:
    """Starts `python -m <module> <flags>`, maybe by another command, and waits until it is ready."""
    running: list[asyncio.subprocess.Process] = []
    reports: list[asyncio.DatagramTransport] = []
    loop = asyncio.get_running_loop()

    async def start(module: str, *flags: str, by: Sequence[str] = ()) -> Service:
        path = short_path / f"notify-{len(running)}"
        told: asyncio.Future[bytes] = loop.create_future()

        class Told(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: object) -> None:
                if not told.done():
                    told.set_result(data)

        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(str(path))
        path.chmod(0o777)
        transport, _ = await loop.create_datagram_endpoint(Told, sock=sock)
        reports.append(transport)
        process = await asyncio.create_subprocess_exec(
            *by,
            sys.executable,
            "-m",
            module,
            *flags,
            env={**os.environ, "NOTIFY_SOCKET": str(path)},
        )
        running.append(process)
        exited = loop.create_task(process.wait())
        async with asyncio.timeout(20):
            await asyncio.wait({told, exited}, return_when=asyncio.FIRST_COMPLETED)
        if not told.done():
            raise AssertionError(f"{module} exited with {exited.result()}")
        exited.cancel()
        facts = dict(line.split("=", 1) for line in told.result().decode().splitlines())
        return Service(process, facts)

    yield start
    for process in running:
        if process.returncode is None:
            process.kill()
        await process.wait()
    for transport in reports:
        transport.close()


@pytest.fixture
def new_machine() -> Callable[..., AbstractAsyncContextManager[Bench]]:
    """For a test that opens its machine itself, twice or with settings."""
    return machine
