"""The pod host and the lone sidecar as commands: real processes from end to end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from grpclib import GRPCError, Status
from sanfran_common.rpc.client import RpcClient
from sanfran_proto.sanfran import v1 as pb

if TYPE_CHECKING:
    from conftest import Bench, Service

    Start = Callable[..., Awaitable[Service]]

DAEMON = """
const { spawn } = require('child_process')
const child = spawn('setsid', ['env', '-i', 'sh', '-c', 'sleep 1000 & echo $! > $0; wait', FILE], { stdio: 'ignore' })
module.exports = (req, res) => res.send('')
"""
"""Starts a process in a session of its own that hides where it comes from, and a child of that."""


class Host:
    """A running pod host with a client, and sidecar clients as needed."""

    def __init__(self, service: Service, stack: AsyncExitStack, calls: pb.PodHostStub) -> None:
        self.service = service
        self.calls = calls
        self._stack = stack

    async def sidecar(self, pod: pb.Pod) -> pb.SidecarStub:
        client = await self._stack.enter_async_context(RpcClient(pod.sidecar_address))
        return pb.SidecarStub(client.channel)

    async def create(self, name: str, controller: str = "c1") -> pb.Pod:
        return await self.calls.create_pod(pb.CreatePodRequest(name=name, controller=controller))

    def nodes(self) -> list[psutil.Process]:
        return psutil.Process(self.service.process.pid).children(recursive=True)


@pytest.fixture
async def start_host(
    bench: Bench, start_service: Start
) -> AsyncIterator[Callable[..., Awaitable[Host]]]:
    async with AsyncExitStack() as stack:

        async def start(*flags: str) -> Host:
            service = await start_service(
                "sanfran_sidecar.host.main",
                *("--listen", f"unix:{bench.path}/host.sock"),
                *("--api", bench.api_server.address),
                *("--run-dir", f"{bench.path}/host"),
                *("--cache-dir", f"{bench.path}/host-bundles"),
                *flags,
            )
            client = await stack.enter_async_context(RpcClient(service.rpc))
            return Host(service, stack, pb.PodHostStub(client.channel))

        yield start


async def test_a_pod_is_announced_used_and_deleted(bench: Bench, start_host: Start) -> None:
    host = await start_host("--sidecar-listen", "tcp")
    events = host.calls.watch_pods(pb.WatchPodsRequest())
    assert (await anext(events)).synced is not None
    pod = await host.create("pod-1")
    assert pod.sidecar_address.startswith("127.0.0.1:")
    assert await host.create("pod-1") == pod
    seen = [(await anext(events)).put for _ in range(2)]
    assert [(one.name, one.controller, one.ready) for one in seen if one is not None] == [
        ("pod-1", "c1", False),
        ("pod-1", "c1", True),
    ]
    sidecar = await host.sidecar(pod)
    answer = await sidecar.activate(bench.order("a1", bench.api.function()))
    assert answer.loaded is not None
    assert await bench.get(answer.loaded.address, "/fn/hello?name=Vik", "a1") == (200, "Hello Vik")
    late = host.calls.watch_pods(pb.WatchPodsRequest())
    first = await anext(late)
    assert first.put is not None
    assert first.put.ready
    await host.calls.delete_pod(pb.DeletePodRequest(name="pod-1"))
    assert host.nodes() == []
    assert (await anext(events)).gone == "pod-1"
    await host.calls.delete_pod(pb.DeletePodRequest(name="pod-1"))
    assert [event.synced is not None async for event in _until_synced(host)] == [True]
    assert await host.service.stop() == 0


async def test_limits_and_names_are_kept(start_host: Start) -> None:
    host = await start_host("--max-pods", "2")
    await host.create("pod-1")
    await host.create("pod-2")
    for name, controller, status in (
        ("pod-3", "c1", Status.RESOURCE_EXHAUSTED),
        ("pod-1", "c2", Status.ALREADY_EXISTS),
        ("../x", "c1", Status.INVALID_ARGUMENT),
    ):
        with pytest.raises(GRPCError) as refused:
            await host.create(name, controller)
        assert refused.value.status is status
    await host.calls.delete_pod(pb.DeletePodRequest(name="pod-1"))
    await host.create("pod-3")


async def test_a_killed_node_is_reported_and_its_place_is_free(
    bench: Bench, start_host: Start
) -> None:
    host = await start_host("--max-pods", "1")
    events = host.calls.watch_pods(pb.WatchPodsRequest())
    await anext(events)
    sidecar = await host.sidecar(await host.create("pod-1"))
    await bench.phase(sidecar, pb.PodPhase.GENERIC)
    (node,) = host.nodes()
    node.kill()
    async for event in events:
        if event.gone is not None:
            break
    await host.create("pod-1")


async def test_processes_start_a_few_at_a_time_in_the_order_of_asking(
    bench: Bench, start_host: Start
) -> None:
    host = await start_host("--starts-at-once", "1")
    events = host.calls.watch_pods(pb.WatchPodsRequest())
    await anext(events)
    names = [f"pod-{n}" for n in range(5)]
    for name in names:
        await host.create(name)
    ready: list[str] = []
    most = 0
    async for event in events:
        most = max(most, len(host.nodes()) - len(ready))
        if event.put is not None and event.put.ready:
            ready.append(event.put.name)
            if len(ready) == len(names):
                break
    assert ready == names
    assert most <= 2  # the next one may have started while the event was under way


async def test_a_stop_is_quick_and_leaves_nothing(bench: Bench, start_host: Start) -> None:
    host = await start_host()
    sidecar = await host.sidecar(await host.create("pod-1"))
    await host.create("pod-2")
    await bench.phase(sidecar, pb.PodPhase.GENERIC)
    source = "module.exports = () => console.log('in')"
    answer = await sidecar.activate(bench.order("a1", bench.api.function(source)))
    assert answer.loaded is not None
    nodes = host.nodes()
    began = time.monotonic()
    assert await host.service.stop() == 0
    assert time.monotonic() - began < 2
    assert not any(node.is_running() for node in nodes)
    assert [entry.name for entry in (bench.path / "host").iterdir()] == ["lock"]


async def test_a_stop_lets_a_running_request_end(bench: Bench, start_host: Start) -> None:
    host = await start_host()
    sidecar = await host.sidecar(await host.create("pod-1"))
    await bench.phase(sidecar, pb.PodPhase.GENERIC)
    source = "module.exports = (req, res) => { console.log('in'); setTimeout(() => res.send('ok'), 300) }"
    answer = await sidecar.activate(bench.order("a1", bench.api.function(source)))
    assert answer.loaded is not None
    running = asyncio.create_task(bench.get(answer.loaded.address, "/fn/hello", "a1"))
    await bench.said(sidecar, "in")
    assert await host.service.stop() == 0
    assert await running == (200, "ok")


async def test_a_daemon_of_a_function_dies_with_its_activation_and_a_neighbours_does_not(
    bench: Bench, start_host: Start
) -> None:
    host = await start_host()
    pids: list[int] = []
    sidecars = []
    for number in (1, 2):
        sidecar = await host.sidecar(await host.create(f"pod-{number}"))
        sidecars.append(sidecar)
        await bench.phase(sidecar, pb.PodPhase.GENERIC)
        file = bench.path / f"daemon-{number}"
        source = DAEMON.replace("FILE", repr(str(file)))
        if number == 2:
            source = source.replace("'env', '-i', ", "")  # bears its pod's folder
        await sidecar.activate(bench.order(f"a{number}", bench.api.function(source)))
        pids.append(int(await _content(file)))
    await sidecars[0].recycle(pb.RecycleRequest(activation_id="a1"))
    assert not psutil.pid_exists(pids[0])
    assert psutil.pid_exists(pids[1])
    await host.calls.delete_pod(pb.DeletePodRequest(name="pod-2"))
    assert not psutil.pid_exists(pids[1])


async def test_a_function_cannot_write_to_its_code_not_even_as_root(
    bench: Bench, start_host: Start
) -> None:
    host = await start_host()
    sidecar = await host.sidecar(await host.create("pod-1"))
    await bench.phase(sidecar, pb.PodPhase.GENERIC)
    source = "require('fs').writeFileSync('left-behind', '')"
    answer = await sidecar.activate(bench.order("a1", bench.api.function(source)))
    assert answer.failed is not None
    assert "EACCES" in answer.failed.message


async def test_orphans_that_end_by_themselves_leave_no_zombie(
    bench: Bench, start_host: Start
) -> None:
    host = await start_host()
    sidecar = await host.sidecar(await host.create("pod-1"))
    await bench.phase(sidecar, pb.PodPhase.GENERIC)
    source = """
    module.exports = (req, res) => {
      for (let i = 0; i < 20; i++) require('child_process').execSync('sh -c "true &" &')
      res.send('')
    }"""
    answer = await sidecar.activate(bench.order("a1", bench.api.function(source)))
    assert answer.loaded is not None
    assert (await bench.get(answer.loaded.address, "/fn/hello", "a1"))[0] == 200
    async with asyncio.timeout(5):
        while len(host.nodes()) != 1:  # noqa: ASYNC110  # nothing tells of another's children
            await asyncio.sleep(0.01)


async def test_a_killed_host_leaves_nothing_that_its_successor_does_not_clear(
    bench: Bench, start_host: Start
) -> None:
    host = await start_host()
    idle = await host.sidecar(await host.create("pod-1"))
    busy = await host.sidecar(await host.create("pod-2"))
    for sidecar in (idle, busy):
        await bench.phase(sidecar, pb.PodPhase.GENERIC)
    file = bench.path / "daemon"
    source = DAEMON.replace("FILE", repr(str(file))).replace("'env', '-i', ", "")
    await idle.activate(bench.order("a1", bench.api.function(source)))
    endless = bench.api.function("module.exports = () => { console.log('in'); for (;;) {} }")
    answer = await busy.activate(bench.order("a2", endless))
    assert answer.loaded is not None
    request = asyncio.create_task(bench.get(answer.loaded.address, "/fn/hello", "a2"))
    daemon = psutil.Process(int(await _content(file)))
    nodes = [one for one in host.nodes() if "runtime.cjs" in " ".join(one.cmdline())]
    assert len(nodes) == 2
    await bench.said(busy, "in")
    await host.service.stop(signal.SIGKILL)
    async with asyncio.timeout(5):
        while sum(map(_dead, nodes)) != 1:  # noqa: ASYNC110  # the one whose loop is not held
            await asyncio.sleep(0.01)
    host = await start_host()
    assert all(map(_dead, [*nodes, daemon]))
    assert sorted(entry.name for entry in (bench.path / "host").iterdir()) == ["lock"]
    with pytest.raises((ConnectionError, IndexError)):
        await request
    sidecar = await host.sidecar(await host.create("pod-1"))
    await bench.phase(sidecar, pb.PodPhase.GENERIC)
    await sidecar.activate(bench.order("a3", endless))
    assert len(bench.api.fetches) == 2  # its bundle was on disk


async def test_calls_without_the_secret_are_refused_by_host_and_pods(start_host: Start) -> None:
    host = await start_host("--rpc-secret", "s3cret")
    with pytest.raises(GRPCError) as refused:
        await host.create("pod-1")
    assert refused.value.status is Status.UNAUTHENTICATED
    async with RpcClient(host.service.rpc, secret="s3cret") as client:
        request = pb.CreatePodRequest(name="pod-1", controller="c1")
        pod = await pb.PodHostStub(client.channel).create_pod(request)
    with pytest.raises(GRPCError) as refused:
        await (await host.sidecar(pod)).get_state(pb.GetStateRequest())
    assert refused.value.status is Status.UNAUTHENTICATED


async def test_a_lone_sidecar_serves_its_pod_and_ends_with_it(
    bench: Bench, start_service: Start
) -> None:
    flags = (
        *("--listen", f"unix:{bench.path}/sidecar.sock"),
        *("--api", bench.api_server.address),
        *("--run-dir", f"{bench.path}/sidecar"),
        *("--cache-dir", f"{bench.path}/sidecar-bundles"),
    )
    service = await start_service("sanfran_sidecar.main", *flags)
    async with RpcClient(service.rpc) as client:
        sidecar = pb.SidecarStub(client.channel)
        state = await sidecar.get_state(pb.GetStateRequest())
        assert state.phase is pb.PodPhase.GENERIC  # ready means warm
        answer = await sidecar.activate(bench.order("a1", bench.api.function()))
        assert answer.loaded is not None
        assert (await bench.get(answer.loaded.address, "/fn/hello?name=x", "a1"))[0] == 200
        states = sidecar.watch_state(pb.GetStateRequest())
        await anext(states)
        (node,) = psutil.Process(service.process.pid).children()
        os.kill(node.pid, signal.SIGKILL)
        assert (await anext(states)).reason == "killed by SIGKILL"
        async with asyncio.timeout(5):
            assert await service.process.wait() == 1
    service = await start_service("sanfran_sidecar.main", *flags)
    began = time.monotonic()
    assert await service.stop() == 0
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--run-dir", "/tmp/" + "x" * 100), "is too long for Unix sockets"),
        (("--listen", "unix:relative"), "has no absolute path"),
        (("--sidecar-listen", "carrier-pigeon"), "is none of unix, tcp"),
    ],
)
async def test_settings_that_cannot_work_are_refused_at_once(
    flags: tuple[str, str], message: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sanfran_sidecar.host.main", *flags, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert message in said.decode()


async def _until_synced(host: Host) -> AsyncIterator[pb.PodEvent]:
    async for event in host.calls.watch_pods(pb.WatchPodsRequest()):
        yield event
        if event.synced is not None:
            return


async def _content(file: Path) -> str:
    async with asyncio.timeout(5):
        while not (file.exists() and file.read_text().strip()):  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.005)
    return file.read_text()


def _dead(process: psutil.Process) -> bool:
    """Dead, whether or not whoever is above has taken note."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
