"""CPU of the router per warm request, beside nginx doing the same.

Router and nginx stand in front of the same runtime, with keep-alive on both sides, and are loaded in turn in
short rounds: rates drift with the machine, CPU time over requests served drifts less, and the ratio within
one round least.
"""

from __future__ import annotations

import asyncio
from statistics import median

from bench.figures import cpu_seconds
from bench.stage import NGINX_MISSING, Stage, Way, generate

CONNECTIONS = 16
TARGET = 1.5


async def cost(way: Way, seconds: float) -> float:
    """Microseconds of CPU per request of what stands there."""
    before = cpu_seconds(way.pid)
    figures = await generate(
        "load", address=way.address, headers=way.headers, connections=CONNECTIONS, seconds=seconds
    )
    return (cpu_seconds(way.pid) - before) / figures["requests"] * 1e6


async def measure(rounds: int, seconds: float) -> list[tuple[float, float | None]]:
    """What the router and nginx cost in each round; None: nginx is not there."""
    async with Stage() as stage:
        router, nginx = await stage.router(), await stage.nginx()
        for way in (router, nginx):
            if way is not None:
                await cost(way, min(seconds, 0.5))  # not counted: connections, compiled code
        return [
            (await cost(router, seconds), await cost(nginx, seconds) if nginx else None)
            for _ in range(rounds)
        ]


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    found = asyncio.run(measure(rounds=1 if quick else 11, seconds=0.1 if quick else 1.5))
    print(
        f"CPU per warm request, {CONNECTIONS} keep-alive connections, {len(found)} rounds in turn"
    )
    print(f"  router: {median(ours for ours, _ in found):.1f} µs")
    both = [(ours, theirs) for ours, theirs in found if theirs is not None]
    if not both:
        print(f"  nginx: {NGINX_MISSING}")
        return
    ratios = sorted(ours / theirs for ours, theirs in both)
    print(f"  nginx, proxy_pass: {median(theirs for _, theirs in both):.1f} µs")
    print(
        f"  router / nginx: {median(ratios):.2f} x, rounds from {ratios[0]:.2f} to {ratios[-1]:.2f}"
        f" (target: at most {TARGET})"
    )
