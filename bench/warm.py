"""Warm calls: through the router, and direct to the runtime, in turn in the same run.

Only the parts that a warm call meets are started: one router process, one runtime process with the
function loaded, and a controller (real gRPC) that names it. CPU per request is the process's user
and system time over requests served: it holds where rates drift.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from sanfran_common.rpc.server import RpcServer
from sanfran_proto.sanfran import v1 as pb

CODE = "module.exports = (req, res) => res.send(`Hello ${req.query.name}`);"
ACTIVATION = "bench-activation"
CONNECTIONS = 16
TARGET = "/fn/hello?name=Vik"


class OneRoute(pb.ControllerBase):
    """A controller that knows one function on one pod."""

    def __init__(self, address: str) -> None:
        endpoint = pb.Endpoint(address=address, activation_id=ACTIVATION, pod="bench")
        self._route = pb.Route(
            name="hello",
            version=1,
            sequence=1,
            controller="bench",
            timeout_ms=60_000,
            concurrency=1000,
            endpoints=[endpoint],
        )

    async def activate(self, message: pb.ActivateFunctionRequest) -> pb.Route:
        return self._route

    async def watch_routes(self, message: pb.WatchRoutesRequest) -> AsyncIterator[pb.RouteEvent]:
        yield pb.RouteEvent(route=self._route)
        yield pb.RouteEvent(synced=pb.RoutesSynced(controller="bench"))
        await asyncio.Event().wait()

    async def report_load(self, message: pb.LoadReport) -> pb.LoadReportResponse:
        return pb.LoadReportResponse()


@contextlib.asynccontextmanager
async def child(
    *command: str | Path, env: dict[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that ends with the block."""
    process = await asyncio.create_subprocess_exec(*command, env=env)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def runtime(node: Path, folder: Path) -> AsyncIterator[tuple[int, str]]:
    """A runtime process with the function loaded: its pid and HTTP address."""
    sidecar = find_spec("sanfran_sidecar")
    assert sidecar is not None
    assert sidecar.origin is not None
    bundle = Path(sidecar.origin).parent / "node" / "runtime.cjs"
    (folder / "hello.js").write_text(CODE)
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = 0
        async for line in reader:
            message: dict[str, Any] = json.loads(line)
            if message["type"] == "ready":
                port = message["port"]
                load = {
                    "type": "load",
                    "activation_id": ACTIVATION,
                    "name": "hello",
                    "version": 1,
                    "root": str(folder),
                    "entry": "hello.js",
                    "env": {},
                    "cwd": str(folder),
                }
                writer.write(json.dumps(load).encode() + b"\n")
            elif message["type"] == "loaded":
                address.set_result(f"127.0.0.1:{port}")

    env = {"SANFRAN_CONTROL": str(folder / "control"), "SANFRAN_HTTP_HOST": "127.0.0.1"}
    env |= {"SANFRAN_HTTP_PORT": "0", "PATH": os.environ["PATH"]}
    async with await asyncio.start_unix_server(control, folder / "control"):
        # A session of its own: the runtime ends its process group when the socket closes.
        process = await asyncio.create_subprocess_exec(
            node, bundle, env=env, start_new_session=True
        )
        try:
            yield process.pid, await asyncio.wait_for(address, 20)
        finally:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def router(address: str, folder: Path) -> AsyncIterator[tuple[int, str]]:
    """A router process that knows the runtime: its pid and HTTP address."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(folder / "notify"))
        notify.setblocking(False)
        async with RpcServer([OneRoute(address)], f"unix:{folder}/controller") as controller:
            command = [sys.executable, "-m", "sanfran_router.main", "--listen", "127.0.0.1:0"]
            command += ["--controllers", controller.address, "--log-level", "warning"]
            env = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify")}
            async with child(*command, env=env) as process:
                async with asyncio.timeout(20):
                    lines = (await loop.sock_recv(notify, 4096)).decode().split("\n")
                said = dict(line.split("=", 1) for line in lines)
                yield process.pid, said["X_SANFRAN_HTTP"]


async def load(address: str, seconds: float, headers: dict[str, str]) -> dict[str, float]:
    """What `bench.load` measures, from a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.load", f"http://{address}{TARGET}"),
        *(str(CONNECTIONS), str(seconds), json.dumps(headers)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError("the load generator failed")
    figures: dict[str, float] = json.loads(out)
    return figures


def cpu(pid: int) -> float:
    """Seconds of user and system time that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def measure(node: Path, rounds: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """Loads both ways in turn, so that a slow moment of the machine meets both."""
    found: dict[str, list[dict[str, float]]] = {"direct": [], "routed": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            runtime(node, folder) as (node_pid, direct),
            router(direct, folder) as (router_pid, routed),
        ):
            ways = {
                "direct": (direct, {"x-sanfran-activation": ACTIVATION}),
                "routed": (routed, {}),
            }
            for address, headers in ways.values():
                await load(address, 0.5, headers)  # not counted: connections, compiled code
            for _ in range(rounds):
                for way, (address, headers) in ways.items():
                    before = cpu(node_pid), cpu(router_pid)
                    figures = await load(address, seconds, headers)
                    for part, was, pid in zip(
                        ("runtime", "router"), before, (node_pid, router_pid), strict=True
                    ):
                        figures[f"{part}_cpu_us"] = (cpu(pid) - was) / figures["requests"] * 1e6
                    found[way].append(figures)
    return found


def report(node: Path, *, quick: bool) -> None:
    """Runs and prints it."""
    found = asyncio.run(measure(node, rounds=1 if quick else 3, seconds=0.5 if quick else 4))

    def middle(way: str, figure: str) -> float:
        return median(one[figure] for one in found[way])

    print(f"Warm call, {CONNECTIONS} keep-alive connections, one router process")
    for way in ("direct", "routed"):
        print(
            f"  {way}: {middle(way, 'per_second'):7.0f} requests/s, p50 {middle(way, 'p50_ms'):.2f} ms, "
            f"p99 {middle(way, 'p99_ms'):.2f} ms, CPU per request: runtime "
            f"{middle(way, 'runtime_cpu_us'):.1f} us, router {middle(way, 'router_cpu_us'):.1f} us"
        )
    ratio = middle("routed", "per_second") / middle("direct", "per_second")
    print(f"  routed / direct: {ratio:.0%} of the requests/s")
