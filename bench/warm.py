"""Warm calls: through the router, and direct to the runtime, in turn in the same run.

Only the parts that a warm call meets are started: one router process, one runtime process with the
function loaded, and a controller (real gRPC) that names it. CPU per request is the process's user
and system time over requests served: it holds where rates drift.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

import psutil

from tests.parts import OneFunction, router, runtime

CODE = "module.exports = (req, res) => res.send(`Hello ${req.query.name}`);"
ACTIVATION = "bench-activation"
CONNECTIONS = 16
TARGET = "/fn/hello?name=Vik"


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


async def measure(rounds: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """Loads both ways in turn, so that a slow moment of the machine meets both."""
    found: dict[str, list[dict[str, float]]] = {"direct": [], "routed": []}
    with tempfile.TemporaryDirectory() as name:
        async with contextlib.AsyncExitStack() as stack:
            started = runtime(Path(name), ACTIVATION, "hello", CODE)
            node_pid, direct = await stack.enter_async_context(started)
            controller = OneFunction((direct, ACTIVATION))
            router_pid, routed = await stack.enter_async_context(router(controller, Path(name)))
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


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    found = asyncio.run(measure(rounds=1 if quick else 3, seconds=0.5 if quick else 4))

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
