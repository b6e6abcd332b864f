"""What 10,000 functions in the router's table cost: CPU per request, and latency while they are scraped.

Two routers stand side by side, one that knows a single function and one that knows them all. The second is
loaded at one function, as the first is, and over all functions in turn, where each has an endpoint and so a
connection of its own to the pod, and the processor's caches meet each for the first time again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from statistics import median

from sanfran_common.config import split_host_port

from bench.figures import cpu_seconds
from bench.stage import Stage, Way, free_port, generate

FUNCTIONS = 10_000
RATE = 1000
"""Requests/s during the scrapes: enough that one is at work at any moment of them."""


async def cost(way: Way, seconds: float, functions: int) -> float:
    """Microseconds of the router's CPU per request, over so many functions."""
    before = cpu_seconds(way.pid)
    figures = await generate(
        "load", address=way.address, headers={}, seconds=seconds, functions=functions
    )
    return (cpu_seconds(way.pid) - before) / figures["requests"] * 1e6


async def scrape(admin: str, enough: asyncio.Event, scrapes: list[tuple[float, float]]) -> None:
    """Scrapes again and again, once at least; notes seconds and megabytes of each."""
    while True:
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection(*split_host_port(admin))
        with contextlib.closing(writer):
            writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
            size = 0
            while data := await reader.read(1 << 20):
                size += len(data)
        scrapes.append((time.perf_counter() - began, size / 1e6))
        if enough.is_set():
            return


class Found:
    """What was measured."""

    def __init__(self) -> None:
        self.costs: list[tuple[float, float, float]] = []
        """Microseconds per request in each round: alone, one of many, over all of many."""
        self.quiet: list[dict[str, float]] = []
        self.scraped: list[dict[str, float]] = []
        self.scrapes: list[tuple[float, float]] = []


async def measure(functions: int, rounds: int, seconds: float) -> Found:
    """Measures all of it in one run."""
    found = Found()
    async with Stage() as stage:
        admin = f"127.0.0.1:{free_port()}"
        alone = await stage.router("alone", functions=1)
        many = await stage.router("many", "--admin", admin, functions=functions)
        await cost(alone, min(seconds, 0.5), 1)
        await cost(many, seconds + functions / 2000, functions)  # every function has its connection
        for _ in range(rounds):
            found.costs.append(
                (
                    await cost(alone, seconds, 1),
                    await cost(many, seconds, 1),
                    await cost(many, seconds, functions),
                )
            )
        for _ in range(rounds):
            for scraped in (False, True):
                load = generate(
                    "steady",
                    address=many.address,
                    headers={},
                    rate=RATE,
                    seconds=seconds,
                    functions=functions,
                )
                if not scraped:
                    found.quiet.append(await load)
                    continue
                enough = asyncio.Event()
                async with asyncio.TaskGroup() as group:
                    group.create_task(scrape(admin, enough, found.scrapes))
                    found.scraped.append(await load)
                    enough.set()
    return found


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    functions = 200 if quick else FUNCTIONS
    found = asyncio.run(measure(functions, 1 if quick else 7, 0.1 if quick else 1.5))
    alone, one, every = (median(costs) for costs in zip(*found.costs, strict=True))
    print(f"A table of {functions} functions: CPU of the router per request")
    print(f"  table of one function: {alone:.1f} µs")
    for name, figure, at in (("one of them called", one, 1), ("all called in turn", every, 2)):
        ratio = median(costs[at] / costs[0] for costs in found.costs)
        print(f"  table of {functions}, {name}: {figure:.1f} µs, {ratio:.2f} x")

    def middle(figures: list[dict[str, float]], figure: str) -> float:
        return median(each[figure] for each in figures)

    took, size = (median(each) for each in zip(*found.scrapes, strict=True))
    print(f"Scraping {functions} functions: {size:.1f} MB in {took:.2f} s; at {RATE} requests/s")
    for name, figures in (("without scrapes", found.quiet), ("while scraping", found.scraped)):
        print(
            f"  {name}: p50 {middle(figures, 'p50_ms'):.2f} ms, p99 {middle(figures, 'p99_ms'):.2f} ms,"
            f" worst {middle(figures, 'worst_ms'):.1f} ms"
        )
