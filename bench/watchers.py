"""Routers that only follow the routes of a controller, as a process of their own.

Usage: python -m bench.watchers ADDRESS ROUTERS. Prints `ready`, and at the end of its standard input, as
JSON, when each router had heard of each function: nanoseconds of CLOCK_MONOTONIC.
"""

import asyncio
import json
import sys
import time

import uvloop
from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.rpc.client import RpcClient
from sanfran_proto.sanfran import v1 as pb


async def follow(address: str, number: int, heard: dict[str, int], synced: asyncio.Event) -> None:
    """One router, with a connection of its own."""
    async with RpcClient(address) as client:
        request = pb.WatchRoutesRequest(router=f"watcher-{number}")
        async for event in pb.ControllerStub(client.channel).watch_routes(request):
            if event.synced is not None:
                synced.set()
            elif event.route is not None and synced.is_set():
                heard[event.route.name] = time.monotonic_ns()


async def run(address: str, routers: int) -> None:
    """All of them."""
    heard: list[dict[str, int]] = [{} for _ in range(routers)]
    async with OwnedTasks("watchers") as tasks:
        all_synced = [asyncio.Event() for _ in range(routers)]
        for number, (mine, synced) in enumerate(zip(heard, all_synced, strict=True)):
            tasks.loop(follow(address, number, mine, synced), name=f"router {number}")
        for synced in all_synced:
            await synced.wait()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(json.dumps(heard), flush=True)


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], int(sys.argv[2])))
