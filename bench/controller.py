"""One controller process among simulated pods: real gRPC, no Node.

Its memory with 100,000 functions and 5,000 active pods, activations per second, and how fast what it
decides reaches ten routers. The simulated pods, the asking router and the watching ones are
processes of their own, and share the cores with it: hence also the CPU of an activation, whose
inverse is what a controller with a core to itself could do.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import psutil
import uvloop
from sanfran_common.rpc.client import RpcClient
from sanfran_proto.sanfran import v1 as pb

from bench.figures import percentile
from bench.load import function_name
from bench.simulated import allow_files
from tests.parts import child

ROUTERS = 10
AT_ONCE = 32
"""Activations that are asked for at the same time."""
PACE = 100
"""Activations per second where the way to the routers is measured: they share the cores."""
MEMORY, RATE, KNOWN = 500, 1000, 50
"""Targets: MB, activations per second, milliseconds until every router knows."""
PIPE = asyncio.subprocess.PIPE


@asynccontextmanager
async def speaker(*command: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of this folder, once it has said that it is ready."""
    arguments = [str(one) for one in command]
    async with child(sys.executable, "-m", *arguments, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout is not None
        async with asyncio.timeout(120):
            if (said := await process.stdout.readline()) != b"ready\n":
                raise RuntimeError(f"{arguments[0]} said {said!r}")
        yield process


@asynccontextmanager
async def controller(folder: Path, pool: int) -> AsyncIterator[tuple[psutil.Process, RpcClient]]:
    """The real one, with a full pool."""
    address = f"unix:{folder}/controller"
    command = [sys.executable, "-m", "sanfran_controller.main", "--log-level", "warning"]
    command += ["--rpc-listen", address, "--api", f"unix:{folder}/api"]
    command += ["--pods", f"unix:{folder}/host", "--pool-size", str(pool), "--pool-max", str(pool)]
    command += ["--max-pods", "100000", "--idle-timeout", "3600", "--admin", "127.0.0.1:0"]
    async with child(*command) as process, RpcClient(address) as client:
        await warmed(folder, pool)
        yield psutil.Process(process.pid), client


async def warmed(folder: Path, pods: int) -> None:
    """Waits until so many pods exist: their sockets are there, and the last ones have been warmed."""
    async with asyncio.timeout(300):
        while len(list(folder.glob("controller*"))) <= pods:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    await asyncio.sleep(1)


class Router:
    """Asks for one function after another that has no pod."""

    def __init__(self, client: RpcClient) -> None:
        self._client = client
        self._next = 0
        self.told: dict[str, int] = {}
        """When the answer was there, by function: nanoseconds of CLOCK_MONOTONIC."""

    async def ask(self) -> float:
        """Milliseconds of one activation."""
        name = function_name(self._next)
        self._next += 1
        stub = pb.ControllerStub(self._client.keyed(name))
        began = time.monotonic_ns()
        request = pb.ActivateFunctionRequest(name=name, router="asking")
        route = await stub.activate(request, timeout=30)
        if not route.endpoints:
            raise RuntimeError(f"{name} was not activated")
        self.told[name] = time.monotonic_ns()
        return (self.told[name] - began) / 1e6

    async def burst(self, count: int) -> list[float]:
        """So many, as fast as they are answered."""
        left = iter(range(count))

        async def work() -> list[float]:
            return [await self.ask() for _ in left]

        parts = await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        return sorted(one for part in parts for one in part)


async def measure(functions: int, pods: int) -> None:
    """Runs and prints it."""
    pool = pods // 10
    allow_files(pods + pool)
    with tempfile.TemporaryDirectory(prefix="sf-") as name:
        folder = Path(name)
        async with speaker("bench.simulated", folder, str(functions), str(pods + pool)):
            async with controller(folder, pool) as (process, client):
                router = Router(client)
                took: list[float] = []
                rates, costs = [], []
                paced, late, behind = await watched(folder, router, pool, pool)
                while len(router.told) < pods:
                    await warmed(folder, pool + len(router.told))
                    used, began = sum(process.cpu_times()[:2]), time.perf_counter()
                    took += await router.burst(pool)
                    rates.append(pool / (time.perf_counter() - began))
                    costs.append((sum(process.cpu_times()[:2]) - used) / pool * 1000)
                await warmed(folder, pool + len(router.told))
                memory = process.memory_info().rss / 1e6
    took.sort()
    rate, cpu = median(rates), median(costs)
    p50, p99 = percentile(took, 50), percentile(took, 99)
    print(f"Controller, {functions} functions, simulated pods, a pool of {pool}")
    print(
        f"  memory with {len(router.told)} active and {pool} generic pods: {memory:.0f} MB"
        f" (target: under {MEMORY})"
    )
    print(
        f"  {rate:.0f} activations/s, {AT_ONCE} at once: p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        f" (target: {RATE}/s)"
    )
    print(
        f"  {cpu:.2f} ms of its CPU each, with starting others: {1000 / cpu:.0f}/s on its own core"
    )
    print(f"  {ROUTERS} routers watch, {PACE}/s: each knows after the answer to the asking one by")
    print(
        f"    p50 {percentile(paced, 50):.1f} ms, p99 {percentile(paced, 99):.1f} ms"
        f" (target: under {KNOWN})"
    )
    print(
        f"  in a burst: {late:.0f}/s, the last one is everywhere {behind:.0f} ms after its answer"
    )


async def watched(
    folder: Path, router: Router, paced: int, burst: int
) -> tuple[list[float], float, float]:
    """Milliseconds until each router knew, activations/s of a burst, and how far behind they were."""
    address = f"unix:{folder}/controller"
    async with speaker("bench.watchers", address, str(ROUTERS)) as watchers:
        before = len(router.told)
        for _ in range(paced):
            pause = asyncio.create_task(asyncio.sleep(1 / PACE))
            await router.ask()
            await pause
        names = list(router.told)[before:]
        began = time.perf_counter()
        await router.burst(burst)
        rate = burst / (time.perf_counter() - began)
        await asyncio.sleep(2)
        out, _ = await watchers.communicate(b"")
    heard: list[dict[str, int]] = json.loads(out)
    if not all(one.keys() >= set(list(router.told)[before:]) for one in heard):
        raise RuntimeError("a router was not told of every activation")
    delays = [max(one[name] - router.told[name], 0) / 1e6 for one in heard for name in names]
    behind = max(max(one.values()) for one in heard) - max(router.told.values())
    return sorted(delays), rate, max(behind, 0) / 1e6


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    uvloop.run(measure(1000, 100) if quick else measure(100_000, 5000))
