"""The controller on Kubernetes: 2,000 pods, 200 activations per second, what they cost it and the API server.

The API server is `kmock` with the objects of a cluster, and the pods are simulated: real gRPC, no Node. Both share a
process, and the cores with the controller, so times are no more than this machine gives; the numbers of calls are exact.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import uvloop
from sanfran_common.rpc.client import RpcClient
from sanfran_proto.sanfran import v1 as pb

from bench.controller import Router, speaker
from bench.figures import percentile
from bench.simulated import allow_files
from tests.parts import child

PACE = 200
"""Activations per second."""
LABELLED = 1.0
"""Seconds within which labels tell the truth."""


@asynccontextmanager
async def controller(folder: Path, pool: int) -> AsyncIterator[tuple[psutil.Process, RpcClient]]:
    """The real one, once it takes calls; its pool is not full yet."""
    address = f"unix:{folder}/controller"
    command = [sys.executable, "-m", "sanfran_controller.main", "--log-level", "warning"]
    command += ["--provider", "kubernetes", "--namespace", "functions", "--rpc-listen", address]
    command += ["--pod-template", f"{folder}/pod.yaml", "--api", f"unix:{folder}/api"]
    command += ["--pool-size", str(pool), "--pool-max", str(pool), "--max-pods", str(pool)]
    command += ["--starts-at-once", "64", "--idle-timeout", "3600", "--admin", "127.0.0.1:0"]
    environment = {**os.environ, "KUBECONFIG": f"{folder}/kubeconfig"}
    async with child(*command, env=environment) as process, RpcClient(address) as client:
        async with asyncio.timeout(120):
            while not (folder / "controller").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        yield psutil.Process(process.pid), client


async def full(client: RpcClient, ready: int) -> None:
    """Until so many generic pods are there."""
    stub = pb.ControllerStub(client.channel)
    async with asyncio.timeout(300):
        while (await stub.get_pool(pb.GetPoolRequest(), timeout=60)).ready < ready:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def asked(cluster: asyncio.subprocess.Process) -> Any:
    """See `bench.cluster`."""
    assert cluster.stdin is not None
    assert cluster.stdout is not None
    cluster.stdin.write(b"\n")
    return json.loads(await cluster.stdout.readline())


def grown(before: Any, after: Any) -> str:
    """Calls in between, Leases' renewals apart."""
    more = {call: count - before["calls"].get(call, 0) for call, count in after["calls"].items()}
    return ", ".join(f"{n} {call}" for call, n in sorted(more.items()) if n and "lease" not in call)


async def measure(pods: int) -> None:
    """Runs and prints it."""
    count = pods // 2
    allow_files(pods)
    with tempfile.TemporaryDirectory(prefix="sf-") as name:
        folder = Path(name)
        async with speaker("bench.cluster", folder, str(pods), str(pods)) as cluster:
            start = await asked(cluster)
            began = time.perf_counter()
            async with controller(folder, pods) as (process, client):
                await full(client, pods)
                filling = time.perf_counter() - began
                await asyncio.sleep(LABELLED)
                filled = await asked(cluster)
                used, began = sum(process.cpu_times()[:2]), time.perf_counter()
                took = await paced(client, count)
                rate = count / (time.perf_counter() - began)
                cpu = (sum(process.cpu_times()[:2]) - used) / count * 1000
                await asyncio.sleep(LABELLED)
                end = await asked(cluster)
                memory = process.memory_info().rss / 1e6
    p50, p99 = percentile(took, 50), percentile(took, 99)
    print(f"Controller on Kubernetes, {pods} simulated pods")
    print(f"  from its start until all are generic: {filling:.0f} s; calls: {grown(start, filled)}")
    print(f"  {rate:.0f} activations/s (asked for: {PACE}): p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    print(f"  calls for {count} activations: {grown(filled, end)}")
    print(f"  {cpu:.2f} ms of its CPU for each, labels included; {memory:.0f} MB")


async def paced(client: RpcClient, count: int) -> list[float]:
    """So many activations, at `PACE` whatever they take; their milliseconds in order."""
    router, asking = Router(client), []
    began = time.perf_counter()
    busy = asyncio.create_task(all_busy(client, router))
    for number in range(count):
        await asyncio.sleep(max(began + number / PACE - time.perf_counter(), 0))
        asking.append(asyncio.create_task(router.ask()))
    took = sorted(await asyncio.gather(*asking))
    busy.cancel()
    await asyncio.wait({busy})
    return took


async def all_busy(client: RpcClient, router: Router) -> None:
    """Tells each half second that every function has a request: else its pod would be taken back for the pool."""
    stub = pb.ControllerStub(client.channel)
    while True:
        loads = [pb.FunctionLoad(name=name, in_flight=1) for name in router.told]
        await stub.report_load(pb.LoadReport(router="asking", functions=loads), timeout=30)
        await asyncio.sleep(0.5)


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    uvloop.run(measure(60 if quick else 2000))
