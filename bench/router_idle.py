"""What idle keep-alive connections cost: memory of the router's processes before and with them.

Each connection has had one answer, so that it holds what a used one holds, and is asked once more at the end.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from subprocess import PIPE

from bench.figures import Memory, memory, total
from bench.stage import Stage
from tests.parts import child

CONNECTIONS = 10_000
TARGET = 100
"""Megabytes, of all of the router's processes with all of these connections."""
SPARE_FILES = 100
"""Open files of a process beside those connections."""


async def measure(connections: int) -> tuple[list[Memory], list[Memory], int]:
    """Memory of the router's processes without and with connections; how many were answered then."""
    async with Stage() as stage:
        router = await stage.router("router", "--idle-timeout", "600")
        command = (sys.executable, "-m", "bench.idlers", router.address)
        async with child(*command, "1", stdin=PIPE, stdout=PIPE) as first:
            await line(first)  # what only a first request makes is no connection's
        before = memory(router.pid)
        async with child(*command, str(connections), stdin=PIPE, stdout=PIPE) as clients:
            await line(clients)
            holding = memory(router.pid)
            assert clients.stdin is not None
            clients.stdin.write(b"\n")
            return before, holding, int(await line(clients))


async def line(process: asyncio.subprocess.Process) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    async with asyncio.timeout(120):
        said = await process.stdout.readline()
    if not said:
        raise RuntimeError("the idle clients failed")
    return said.decode()


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    connections = 200 if quick else CONNECTIONS
    print(f"{connections} idle keep-alive connections")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < connections + SPARE_FILES:
        print(f"  not measured: open files are limited to {hard} (ulimit -Hn)")
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the clients inherit it
    before, holding, answered = asyncio.run(measure(connections))
    for number, (was, now) in enumerate(zip(before, holding, strict=True)):
        print(f"  router's process {number}: {was}; with them {now}")
    added = (total(holding).rss - total(before).rss) * 1e3 / connections
    print(f"  together: {total(holding)} (target: under {TARGET} MB); {added:.2f} kB each")
    print(f"  {answered} of {connections} were answered when asked again")
