"""Fifty functions never called before, all called in the same instant, with ten generic pods."""

import asyncio
import contextlib
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import uvloop

from bench.cold import create
from bench.figures import percentile
from bench.pods import until
from bench.runtime import generic
from bench.stage import CORES
from tests.engine import engine

FUNCTIONS, POOL = 50, 10
PATIENCE = 60
MOST = 1.3
"""The target: times what the pod starts alone take."""


async def call(address: tuple[str, int], name: str, start: asyncio.Event) -> float:
    """Milliseconds from the start to the answer, on a connection that is open before."""
    reader, writer = await asyncio.open_connection(*address)
    await start.wait()
    began = time.perf_counter()
    writer.write(
        f"GET /fn/{name}?name=Vik HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    took = (time.perf_counter() - began) * 1000
    writer.close()
    if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(f"from {name}".encode()):
        raise RuntimeError(f"{name}: {answer!r}")
    return took


async def all_at_once(address: tuple[str, int], names: list[str]) -> list[float]:
    """Calls each of them in the same instant."""
    start = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(call(address, name, start)) for name in names]
        await asyncio.sleep(0.5)
        start.set()
    return sorted(one.result() for one in calls)


def starts_alone(count: int) -> float:
    """Milliseconds in which so many processes become generic, when the cores have nothing else to do."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(CORES) or 1) as starters:
        began = time.perf_counter()
        for process in starters.map(lambda _: generic(), range(count)):
            stack.enter_context(process)
        return (time.perf_counter() - began) * 1000


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    took: list[float] = []
    ideals: list[float] = []
    for _ in range(1 if quick else 5):
        ideals.append(starts_alone(FUNCTIONS - POOL))
        with tempfile.TemporaryDirectory() as folder:
            with engine(Path(folder) / "data", "--pool-size", str(POOL)) as running:
                names = [f"burst-{number}" for number in range(FUNCTIONS)]
                for name in ["warm-up", *names]:
                    create(running, name)
                until(running, POOL)
                url = urlsplit(running.url)
                address = (url.hostname or "", url.port or 0)
                uvloop.run(all_at_once(address, ["warm-up"]))
                until(running, POOL)
                took += uvloop.run(all_at_once(address, names))
    took.sort()
    p50, p99 = percentile(took, 50), percentile(took, 99)
    ideal = median(ideals)
    print(f"Burst: {FUNCTIONS} functions never called, in one instant, a pool of {POOL}")
    print(f"  all answered: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    print(
        f"  {FUNCTIONS - POOL} bare pod starts, {len(CORES) or 1} at a time: {ideal:.0f} ms;"
        f" p99 is {p99 / ideal:.2f} x (target: at most {MOST:g})"
    )
