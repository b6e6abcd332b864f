"""`--workers`: what a second process of the router brings, and how evenly connections fall.

The load and the pod live on the same cores, so on a small machine requests/s cannot double. Requests
with many headers keep one worker busy while load and pod (an nginx that always says the same) have cores left; what
the cores allow at most is told beside the ratio.
"""

from __future__ import annotations

import asyncio
from statistics import median
from typing import NamedTuple

import psutil
from sanfran_common.config import split_host_port

from bench.figures import family
from bench.stage import Stage, Way, generate

WORKERS = (1, 2)
CONNECTIONS = 64
HEADERS = {"TE": "trailers", **{f"X-Header-{number}": "some value" for number in range(90)}}


class Round(NamedTuple):
    """One load: requests/s, requests, CPU seconds of the whole machine, and of each process CPU
    seconds and client connections."""

    per_second: float
    requests: float
    busy: float
    cpu: list[float]
    connections: list[int]


def clients(process: psutil.Process, port: int) -> int:
    """How many client connections a process holds; -1 where only root may know."""
    try:
        held = process.net_connections("tcp")
    except psutil.AccessDenied:
        return -1
    return sum(
        1 for one in held if one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port
    )


async def load(way: Way, seconds: float) -> Round:
    """Loads it once."""
    processes = family(way.pid)
    before = [one.cpu_times() for one in processes]
    busy = busy_seconds()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(
            generate(
                "load",
                address=way.address,
                headers=HEADERS,
                connections=CONNECTIONS,
                seconds=seconds,
            )
        )
        held = [0] * len(processes)
        while sum(held) < CONNECTIONS and min(held) >= 0 and not running.done():
            await asyncio.sleep(0.05)
            held = [clients(one, split_host_port(way.address)[1]) for one in processes]
    figures = running.result()
    after = [one.cpu_times() for one in processes]
    cpu = [(b.user + b.system) - (a.user + a.system) for a, b in zip(before, after, strict=True)]
    return Round(figures["per_second"], figures["requests"], busy_seconds() - busy, cpu, held)


def busy_seconds() -> float:
    """CPU seconds of all processes so far."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


async def measure(rounds: int, seconds: float) -> dict[int, list[Round]]:
    """Rounds by number of workers, in turn."""
    found: dict[int, list[Round]] = {count: [] for count in WORKERS}
    async with Stage() as stage:
        await stage.fixed()
        ways = {
            count: await stage.router(f"{count} workers", "--workers", str(count))
            for count in WORKERS
        }
        for way in ways.values():
            await load(way, min(seconds, 0.5))
        for _ in range(rounds):
            for count, way in ways.items():
                found[count].append(await load(way, seconds))
    return found


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    found = asyncio.run(measure(1 if quick else 5, 0.1 if quick else 2))
    print(f"Router with several workers, {CONNECTIONS} connections, {len(HEADERS)} headers")
    for count, rounds in found.items():
        rate = median(one.per_second for one in rounds)
        cost = median(sum(one.cpu) / one.requests * 1e6 for one in rounds)
        print(f"  {count}: {rate:.0f} requests/s, CPU per request {cost:.1f} µs, all processes")
        for number in range(len(rounds[0].cpu)):
            cpu = median(one.cpu[number] / sum(one.cpu) for one in rounds)
            held = [one.connections[number] for one in rounds]
            line = f"    process {number}: {cpu:.0%} of the CPU; connections by round "
            print(line + (", ".join(map(str, held)) if min(held) >= 0 else "known to root only"))
    pairs = zip(*(found[count] for count in WORKERS), strict=True)
    ratio = median(two.per_second / one.per_second for one, two in pairs)
    cores = psutil.cpu_count() or 1
    alone = found[WORKERS[0]]
    allowed = median(cores * one.requests / one.busy / one.per_second for one in alone)
    print(f"  2 / 1: {ratio:.2f} x requests/s; {cores} cores allow {min(allowed, 2.0):.2f} x")
