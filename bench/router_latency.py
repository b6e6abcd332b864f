"""What the router adds to a request's latency at half of its maximum rate, beside nginx.

The maximum is measured in the same run. Then requests leave evenly spread at half of it, whatever the
answers do, directly to a pod and through each proxy in turn (bench/steady.py). On few cores the
scheduler's turns of some milliseconds would be all that one sees; so the proxy has a core of its own, and the pod
is an nginx that always says the same, which leaves the generator enough of the other core.
"""

from __future__ import annotations

import asyncio
from statistics import median

from bench.figures import cpu_seconds
from bench.stage import NGINX_MISSING, Stage, generate, on_cores

TARGET = 1.0
"""Milliseconds that the router may add to p99."""

Found = dict[str, list[dict[str, float]]]


async def measure(rounds: int, seconds: float) -> tuple[float, Found]:
    """The router's maximum in requests/s, and figures of each way and round at half of it."""
    with on_cores(first=False):
        async with Stage() as stage:
            return await _measure(stage, rounds, seconds)


async def _measure(stage: Stage, rounds: int, seconds: float) -> tuple[float, Found]:
    found: Found = {}
    await stage.fixed()
    with on_cores(first=True):
        router, nginx = await stage.router(), await stage.nginx()
    highest = 0.0
    for _ in range(3):
        figures = await generate(
            "load", address=router.address, headers=router.headers, seconds=seconds / 2
        )
        highest = max(highest, figures["per_second"])
    for turn in range(rounds + 1):
        for way in (stage.direct, router, nginx):
            if way is None:
                continue
            before = cpu_seconds(way.pid)
            figures = await generate(
                "steady",
                address=way.address,
                headers=way.headers,
                rate=highest / 2,
                seconds=seconds if turn else min(seconds, 0.3),  # the first one does not count
            )
            figures["busy"] = (cpu_seconds(way.pid) - before) / seconds
            if turn:
                found.setdefault(way.name, []).append(figures)
    return highest, found


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    highest, found = asyncio.run(measure(rounds=1 if quick else 7, seconds=0.1 if quick else 3))

    def middle(way: str, figure: str) -> float:
        return median(one[figure] for one in found[way])

    def added(way: str, figure: str) -> list[float]:
        pairs = zip(found[way], found["direct"], strict=True)
        return sorted(one[figure] - direct[figure] for one, direct in pairs)

    print(f"Latency at {highest / 2:.0f} requests/s, half of the router's maximum, sent evenly")
    for way in found:
        print(
            f"  {way}: p50 {middle(way, 'p50_ms'):.3f} ms, p99 {middle(way, 'p99_ms'):.3f} ms; "
            f"its processes {middle(way, 'busy'):.0%} of a core"
        )
        if way != "direct":
            p50, p99 = added(way, "p50_ms"), added(way, "p99_ms")
            print(
                f"    added to p50 {median(p50):.3f} ms, to p99 {median(p99):.3f} ms"
                f" (rounds from {p99[0]:.3f} to {p99[-1]:.3f})"
            )
        reached = min(one["per_second"] for one in found[way]) / (highest / 2)
        if reached < 0.98:
            print(f"    only {reached:.0%} of the rate were reached: the machine is too busy")
    if "nginx" not in found:
        print(f"  nginx: {NGINX_MISSING}")
    print(f"  target: the router adds less than {TARGET:.0f} ms to p99")
    late = [
        f"{way} p99 {middle(way, 'late_p99_ms'):.3f} ms ({middle(way, 'cpu'):.0%} of a core)"
        for way in found
    ]
    print(f"  the generator itself sent late by: {', '.join(late)}")
