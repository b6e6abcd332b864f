"""Warm calls: through the router, and direct to the runtime, in turn in the same run.

Only the parts that a warm call meets are started: one router process, one runtime process with the
function loaded, and a controller (real gRPC) that names it. CPU per request is the process's user
and system time over requests served: it holds where rates drift.
"""

from __future__ import annotations

import asyncio
from statistics import median

from bench.figures import cpu_seconds
from bench.stage import Stage, generate

CONNECTIONS = 16
TARGET = 0.6
"""Of the direct requests/s, through one router process."""


async def measure(rounds: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """Loads both ways in turn, so that a slow moment of the machine meets both."""
    found: dict[str, list[dict[str, float]]] = {"direct": [], "router": []}
    async with Stage() as stage:
        routed = await stage.router()
        pids = {"runtime": stage.direct.pid, "router": routed.pid}
        for turn in range(rounds + 1):
            for way in (stage.direct, routed):
                before = {part: cpu_seconds(pid) for part, pid in pids.items()}
                figures = await generate(
                    "load",
                    address=way.address,
                    headers=way.headers,
                    connections=CONNECTIONS,
                    seconds=seconds if turn else min(seconds, 0.5),
                )
                for part, pid in pids.items():
                    cpu = (cpu_seconds(pid) - before[part]) / figures["requests"]
                    figures[f"{part}_cpu_us"] = cpu * 1e6
                if turn:  # the first one is for connections and compiled code
                    found[way.name].append(figures)
    return found


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    found = asyncio.run(measure(rounds=1 if quick else 5, seconds=0.1 if quick else 2))

    def middle(way: str, figure: str) -> float:
        return median(one[figure] for one in found[way])

    print(f"Warm call, {CONNECTIONS} keep-alive connections, one router process")
    for way in ("direct", "router"):
        print(
            f"  {way}: {middle(way, 'per_second'):7.0f} requests/s, p50 {middle(way, 'p50_ms'):.2f} ms, "
            f"p99 {middle(way, 'p99_ms'):.2f} ms, CPU per request: runtime "
            f"{middle(way, 'runtime_cpu_us'):.1f} µs, router {middle(way, 'router_cpu_us'):.1f} µs"
        )
    ratio = median(
        routed["per_second"] / direct["per_second"]
        for direct, routed in zip(found["direct"], found["router"], strict=True)
    )
    print(f"  router / direct: {ratio:.0%} of the requests/s (target: at least {TARGET:.0%})")
