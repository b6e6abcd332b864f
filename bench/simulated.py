"""A pod host with simulated pods, and an api service with many functions, as a process of their own.

Usage: python -m bench.simulated FOLDER FUNCTIONS PODS
"""

import asyncio
import resource
import sys
from pathlib import Path

import uvloop
from sanfran_proto.sanfran import v1 as pb

from bench.load import function_name
from controller.tests.simulated import SimApi, SimHost

GATHER = 0.01
"""Seconds in which pods come together until their watcher is told: telling costs by how many there are."""
FILES = 64
"""Open files beside those of pods."""


class ManyPods(SimHost):
    """Starts thousands of pods in a time that does not grow with their square."""

    _telling = False

    def _members_changed(self) -> None:
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_later(GATHER, self._tell)

    def _tell(self) -> None:
        self._telling = False
        super()._members_changed()


def allow_files(pods: int) -> None:
    """A pod is a listening socket and a connection. Children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * pods + FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def many_functions(folder: Path, functions: int) -> SimApi:
    """An api service with so many."""
    api = SimApi(folder)
    for number in range(functions):
        name = function_name(number)
        api.functions[name] = pb.FunctionVersion(
            name=name,
            version=1,
            digest=f"{number:064x}",
            bundle_bytes=100_000,
            entry="function.js",
            settings=pb.FunctionSettings(timeout_ms=60_000, concurrency=20, env={"KIND": "bench"}),
            created_at_ms=1_700_000_000_000 + number,
        )
    return api


async def serve(folder: Path, functions: int) -> None:
    """Until it is killed."""
    host, api = ManyPods(folder), many_functions(folder, functions)
    await host.start()
    await api.start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    allow_files(int(sys.argv[3]))
    uvloop.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
