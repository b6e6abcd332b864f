"""Functions in a pod of two containers: one after another, and how each may end."""

from __future__ import annotations

import asyncio
import shutil

import pytest
from grpclib import GRPCError
from sanfran_proto.sanfran import v1 as pb

from sidecar.tests.conftest import Bench
from sidecar.tests.keeper.conftest import LEAVES_EVERYTHING, TwoContainers, ended, namespaces, until

SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]


@namespaces
@pytest.mark.parametrize("shell", SHELLS)
async def test_one_container_serves_functions_one_after_another(
    shell: str, pod: TwoContainers, bench: Bench
) -> None:
    pod.start_keeper(shell)
    await pod.start_sidecar("--print-logs")
    stub = await pod.stub()
    for name, text in (("one", "first"), ("two", "second")):
        source = f"console.log('hello'); module.exports = (req, res) => res.send('{text}')"
        function = pod.api.function(source, name=name)
        before = pod.node()
        answer = await stub.activate(bench.order(f"id-{name}", function))
        assert answer.loaded is not None
        assert await bench.get(answer.loaded.address, f"/fn/{name}", f"id-{name}") == (200, text)
        await bench.said(stub, "hello")
        open_bundles = [one.stat().st_mode & 0o777 for one in pod.volume.glob("bundles/*.*")]
        assert sorted(open_bundles) == [0o500] * (name == "two") + [0o555]
        state = await stub.recycle(pb.RecycleRequest(activation_id=f"id-{name}"))
        assert state.phase is pb.PodPhase.GENERIC
        assert pod.node() != before
    assert [one.name for one in pod.volume.glob("meet/*")] == []
    await pod.nothing_but_the_runtime()


@namespaces
async def test_a_recycled_function_leaves_nothing(pod: TwoContainers, bench: Bench) -> None:
    stub = await pod.both()
    keeper = pod.inside()[0]
    answer = await stub.activate(bench.order("a1", pod.api.function(LEAVES_EVERYTHING)))
    assert answer.loaded is not None
    assert await bench.get(answer.loaded.address, "/fn/hello", "a1") == (200, str(pod.scratch))
    await until(lambda: len(pod.inside()) >= 8)
    state = await stub.recycle(pb.RecycleRequest(activation_id="a1"))
    assert state.phase is pb.PodPhase.GENERIC
    await pod.nothing_but_the_runtime()
    assert pod.inside()[0] == keeper
    assert list(pod.scratch.iterdir()) == []


@namespaces
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "change",
    ["cp.execFileSync('prlimit', ['--pid', '1', '--nofile=99:99'])", "os.setPriority(1, 10)"],
)
async def test_what_a_function_did_to_the_keeper_s_limits_meets_no_other_function(
    shell: str, change: str, pod: TwoContainers, bench: Bench
) -> None:
    pod.start_keeper(shell)
    await pod.start_sidecar()
    stub = await pod.stub()
    source = "const cp = require('child_process'), os = require('os'); module.exports = () => {};"
    answer = await stub.activate(bench.order("a1", pod.api.function(source + change)))
    assert answer.loaded is not None
    with pytest.raises(GRPCError, match="gone"):
        await stub.recycle(pb.RecycleRequest(activation_id="a1"))
    assert "limits or the priority" in pod.said.read_text()


@namespaces
async def test_a_function_has_its_own_output_and_no_variable_of_its_container(
    pod: TwoContainers, bench: Bench
) -> None:
    stub = await pod.both()
    source = "require('fs').writeSync(1, 'raw\\nhalf'); require('fs').writeSync(2, 'oh\\n'); module.exports = () => {}"
    await stub.activate(bench.order("a1", pod.api.function(source)))
    await bench.said(stub, "raw")
    await bench.said(stub, "oh")
    state = await stub.recycle(pb.RecycleRequest(activation_id="a1"))
    assert "half" in [line.text for line in state.last_words]
    await stub.activate(bench.order("a2", pod.api.function("module.exports = () => {}", version=2)))
    state = await stub.recycle(pb.RecycleRequest(activation_id="a2"))
    assert [line.text for line in state.last_words] == []
    source = "console.log(Object.keys(process.env).sort().join()); module.exports = () => {}"
    function = pod.api.function(source, version=3, env={"MINE": "1"})
    await stub.activate(bench.order("a3", function))
    await bench.said(stub, "HOME,LANG,MINE,NODE_ENV,PATH,TMPDIR")


@namespaces
async def test_a_process_that_is_killed_or_exits_ends_the_pod_with_the_reason(
    pod: TwoContainers, bench: Bench
) -> None:
    stub = await pod.both()
    await stub.activate(bench.order("a1", pod.api.function("module.exports = () => {}")))
    pod.node().kill()
    state = await ended(stub)
    assert (state.phase, state.reason) == (pb.PodPhase.GONE, "killed by SIGKILL")


@namespaces
async def test_code_that_exits_while_it_loads_is_a_failed_load(
    pod: TwoContainers, bench: Bench
) -> None:
    stub = await pod.both()
    answer = await stub.activate(bench.order("a1", pod.api.function("process.exit(7)")))
    assert answer.failed is not None
    assert "exited with code 7" in answer.failed.message


@namespaces
async def test_a_held_event_loop_is_ended_from_outside(pod: TwoContainers, bench: Bench) -> None:
    stub = await pod.both()
    function = pod.api.function("module.exports = () => { for (;;); };")
    function.settings = pb.FunctionSettings(timeout_ms=500)
    answer = await stub.activate(bench.order("a1", function))
    assert answer.loaded is not None
    calling = asyncio.create_task(bench.get(answer.loaded.address, "/fn/hello", "a1"))
    state = await ended(stub)
    assert state.reason == "timeout: its event loop was held for more than 0.5 s"
    await asyncio.wait({calling})
    assert calling.exception() is not None


@namespaces
@pytest.mark.parametrize(
    "stat",
    [
        "anon {}\nfile 999999999999\nkernel 1\nshmem 1048576\n",
        "cache 999999999999\ntotal_rss {}\ntotal_shmem 1048576\n",
    ],
    ids=["cgroup v2", "cgroup v1"],
)
async def test_a_container_with_more_memory_than_its_function_may_have_is_ended(
    stat: str, pod: TwoContainers, bench: Bench
) -> None:
    where = pod.cgroup / ("memory.stat" if stat.startswith("anon") else "memory/memory.stat")
    where.parent.mkdir(exist_ok=True)
    where.write_text(stat.format(31 << 20))
    stub = await pod.both()
    function = pod.api.function("module.exports = () => {}")
    function.settings = pb.FunctionSettings(memory_mb=32)
    answer = await stub.activate(bench.order("a1", function))
    assert answer.loaded is not None
    where.write_text(stat.format(40 << 20))
    state = await ended(stub)
    assert state.reason == "out_of_memory: it had 41 MB, 32 MB are allowed"
