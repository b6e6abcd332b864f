"""Fifty functions never called before, all called in the same instant, with ten generic pods."""

import asyncio
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from bench.cold import create
from bench.figures import percentile
from bench.pods import until
from bench.stage import CORES
from tests.engine import Engine, engine

FUNCTIONS, POOL = 50, 10
PATIENCE = 60


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


def starting_cpu(running: Engine) -> float:
    """Milliseconds of CPU that a process takes to become a generic pod."""
    used = sorted(sum(process.cpu_times()[:2]) for process in running.nodes())
    return percentile(used, 50) * 1000


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    took: list[float] = []
    cpu = 0.0
    for _ in range(1 if quick else 5):
        with tempfile.TemporaryDirectory() as folder:
            with engine(Path(folder) / "data", "--pool-size", str(POOL)) as running:
                names = [f"burst-{number}" for number in range(FUNCTIONS)]
                for name in ["warm-up", *names]:
                    create(running, name)
                until(running, POOL)
                cpu = cpu or starting_cpu(running)
                url = urlsplit(running.url)
                address = (url.hostname or "", url.port or 0)
                uvloop.run(all_at_once(address, ["warm-up"]))
                until(running, POOL)
                took += uvloop.run(all_at_once(address, names))
    took.sort()
    p50, p99 = percentile(took, 50), percentile(took, 99)
    cores = len(CORES) or 1
    ideal = (FUNCTIONS - POOL) * cpu / cores
    print(f"Burst: {FUNCTIONS} functions never called, in one instant, a pool of {POOL}")
    print(f"  all answered: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    print(
        f"  {FUNCTIONS - POOL} pod starts of {cpu:.0f} ms CPU on {cores} cores: {ideal:.0f} ms",
        end="",
    )
    print(f"; p99 is {p99 / ideal:.2f} x")
