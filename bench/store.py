"""The api service with many functions: listing them, and looking one up while writes go on.

The functions lie in the store before it starts. A look-up is `GetFunction` over gRPC; beside it stands the health
check of the same service on the same connection, which is all of that but the store.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import httpx
from sanfran_api.bundles.pack import Bundle
from sanfran_api.store.store import Store
from sanfran_api.store.vault import Vault
from sanfran_common.rpc.client import RpcClient
from sanfran_proto.grpc.health import v1 as health
from sanfran_proto.sanfran import v1 as pb

from bench.figures import cpu_seconds, percentile
from bench.stage import free_port
from tests.parts import child

FUNCTIONS, LOOK_UPS = 100_000, 4000
WRITERS = 8
RATES = (50.0, math.inf)
"""Writes per second."""
PAUSE = 0.002
"""Seconds between two look-ups: what a controller asks, it asks one at a time."""
TARGET = 2.0
"""Milliseconds of the look-ups' 99th percentile while writes go on."""
PAGE = 1000


async def fill(folder: Path, functions: int) -> None:
    """Makes so many functions of a small module each."""
    vault = Vault(folder / "secrets.key", own=True)
    async with Store(
        folder, limit=8 << 30, keep_versions=20, vault=vault, changed=lambda: None
    ) as store:

        async def create(number: int) -> None:
            content = b"module.exports = (req, res) => res.send('%d');" % (number % 1000)
            digest = hashlib.sha256(content).digest()
            bundle = Bundle(digest, len(content), "a.js", len(content), io.BytesIO(content))
            settings = pb.FunctionSettings(
                env={"STAGE": "test"}, timeout_ms=60_000, concurrency=100, memory_mb=512
            )
            made = pb.FunctionVersion(name=f"f{number:06}", entry="a.js", settings=settings)
            await store.create(made, bundle)

        for start in range(0, functions, 1000):
            some = range(start, min(start + 1000, functions))
            await asyncio.gather(*(create(number) for number in some))


@asynccontextmanager
async def service(folder: Path) -> AsyncIterator[tuple[int, str, RpcClient]]:
    """The real one: its process, the URL of REST, a client of its gRPC."""
    http, address = f"127.0.0.1:{free_port()}", f"unix:{folder.parent}/api.sock"
    command: list[str | Path] = [
        Path(sys.executable).with_name("sanfran-api"),
        "--log-level",
        "error",
    ]
    command += ["--data", folder, "--listen", http, "--rpc-listen", address]
    async with child(*command) as process, RpcClient(address) as client:
        async with asyncio.timeout(120):
            while not (folder.parent / "api.sock").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)  # REST comes after gRPC
        yield process.pid, f"http://{http}/api/v1/", client


async def latencies(call: Callable[[int], Awaitable[object]], count: int) -> list[float]:
    """Milliseconds of so many calls, one after the other, in order."""
    found = []
    for number in range(count):
        await asyncio.sleep(PAUSE)
        began = time.perf_counter()
        await call(number)
        found.append((time.perf_counter() - began) * 1e3)
    return sorted(found)


async def write(
    http: httpx.AsyncClient, writer: int, rate: float, written: Synchronized[int]
) -> None:
    """Changes a setting of one function after the other, at its part of the rate."""
    began = time.monotonic()
    for number in itertools.count():
        due = began + (number * WRITERS + writer) / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        name = f"f{writer * 100 + number % 100:06}"
        settings = f'{{"timeout": {number % 60 + 1}}}'
        answer = await http.put(f"functions/{name}", files={"settings": (None, settings)})
        answer.raise_for_status()
        with written.get_lock():
            written.value += 1


async def write_all(url: str, rate: float, written: Synchronized[int]) -> None:
    """Writes until its process is ended."""
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
        await asyncio.gather(*(write(http, one, rate, written) for one in range(WRITERS)))


def write_in_a_process(url: str, rate: float, written: Synchronized[int]) -> None:
    """Of their own, so that who measures does not wait for itself."""
    asyncio.run(write_all(url, rate, written))


@asynccontextmanager
async def writing(url: str, rate: float) -> AsyncIterator[Synchronized[int]]:
    """So many writes per second, or as many as it takes; gives their count."""
    processes = multiprocessing.get_context("spawn")
    written = processes.Value("L", 0)
    process = processes.Process(target=write_in_a_process, args=(url, rate, written), daemon=True)
    process.start()
    try:
        while not written.value:  # another process does not tell
            assert process.is_alive(), "the process that writes has ended"
            await asyncio.sleep(0.01)
        yield written
        assert process.is_alive(), "the process that writes has ended"
    finally:
        process.kill()
        process.join()


async def run(*, quick: bool) -> None:
    """Runs and prints it."""
    functions, look_ups = (2000, 200) if quick else (FUNCTIONS, LOOK_UPS)
    with tempfile.TemporaryDirectory(prefix="sanfran-bench-") as made:
        folder = Path(made) / "data"
        folder.mkdir()
        began = time.perf_counter()
        await fill(folder, functions)
        filled = time.perf_counter() - began
        print(f"Store, {functions} functions, made in {filled:.1f} s, {functions / filled:.0f}/s")
        async with service(folder) as (pid, url, client):
            async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
                await listing(http, pid, functions)
                await looking_up(url, client, functions, look_ups)


async def listing(http: httpx.AsyncClient, pid: int, functions: int) -> None:
    """All of them by REST, in pages."""
    took: list[float] = []
    after, seen, cpu = "", 0, cpu_seconds(pid)
    while True:
        began = time.perf_counter()
        page = (await http.get("functions", params={"limit": PAGE, "after": after})).json()
        took.append((time.perf_counter() - began) * 1e3)
        seen += len(page["functions"])
        after = page["next_after"]
        if not after:
            break
    assert seen == functions, f"{seen} of {functions} were listed"
    each = (cpu_seconds(pid) - cpu) / functions * 1e6
    took.sort()
    print(
        f"  listed in {len(took)} pages of {PAGE}: {sum(took) / 1e3:.1f} s, a page p50 "
        f"{percentile(took, 50):.0f} ms, p99 {percentile(took, 99):.0f} ms; {each:.0f} µs of CPU a function"
    )


async def looking_up(url: str, client: RpcClient, functions: int, look_ups: int) -> None:
    """One at a time, in peace and among writes, beside the health check."""
    api, checks = pb.ApiStub(client.channel), health.HealthStub(client.channel)

    async def get(number: int) -> None:
        name = f"f{number * 7919 % functions:06}"
        assert (await api.get_function(pb.GetFunctionRequest(name=name))).name == name

    async def check(number: int) -> None:
        await checks.check(health.HealthCheckRequest())

    def say(what: str, found: list[float]) -> None:
        figures = ", ".join(f"p{at} {percentile(found, at):.2f}" for at in (50, 90, 99))
        print(f"  {what:<38} {figures} ms")

    say("GetFunction, nothing else", await latencies(get, look_ups))
    say("health check, nothing else", await latencies(check, look_ups))
    for rate in RATES:
        async with writing(url, rate) as written:
            before, began = written.value, time.perf_counter()
            among = await latencies(get, look_ups)
            reached = (written.value - before) / (time.perf_counter() - began)
            say(f"GetFunction among {reached:.0f} writes/s", among)
            say("health check among them", await latencies(check, look_ups))
    print(f"  target: p99 of GetFunction among writes below {TARGET:g} ms")


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    asyncio.run(run(quick=quick))
