"""The life of a pod over real gRPC, on real Node."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from grpclib import GRPCError, Status
from sanfran_proto.sanfran import v1 as pb

if TYPE_CHECKING:
    from conftest import Bench


async def test_a_generic_pod_becomes_a_function_and_generic_again(bench: Bench) -> None:
    stub, pod = await bench.generic()
    answer = await stub.activate(bench.order("a1", bench.api.function()))
    assert answer.loaded is not None
    assert answer.loaded.load_ms > 0
    first = node = bench.node_pid(pod)
    assert await bench.get(answer.loaded.address, "/fn/hello?name=Vik", "a1") == (200, "Hello Vik")
    state = await stub.get_state(pb.GetStateRequest())
    assert (state.phase, state.activation_id) == (pb.PodPhase.ACTIVE, "a1")
    assert state.function is not None
    assert state.function.name == "hello"

    state = await stub.recycle(pb.RecycleRequest(activation_id="a1", grace_ms=1000))
    assert (state.phase, state.activation_id) == (pb.PodPhase.GENERIC, "")
    assert state.function is None
    assert bench.node_pid(pod) != first
    assert not psutil.pid_exists(node)

    other = bench.api.function("module.exports = (req, res) => res.send('bye')", name="bye")
    answer = await stub.activate(bench.order("a2", other))
    assert answer.loaded is not None
    assert await bench.get(answer.loaded.address, "/fn/bye", "a2") == (200, "bye")
    assert (await bench.get(answer.loaded.address, "/fn/bye", "a1"))[0] == 421


async def test_the_function_gets_its_env_and_nothing_of_the_engines(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANFRAN_RPC_SECRET", "s3cret")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    stub, _ = await bench.generic()
    source = "module.exports = (req, res) => res.send({env: process.env, cwd: process.cwd()})"
    secrets = {"KEY": "canary", "WITHHELD": ""}
    function = bench.api.function(source, env={"COLOUR": "blue"}, secrets=secrets)
    answer = await stub.activate(bench.order("a1", function))
    assert answer.loaded is not None
    _, body = await bench.get(answer.loaded.address, "/fn/hello", "a1")
    env = json.loads(body)["env"]
    assert env.pop("COLOUR") == "blue"
    assert env.pop("KEY") == "canary"
    told = (await stub.get_state(pb.GetStateRequest())).function
    assert told is not None
    assert told.settings is not None
    assert told.settings.secrets == {"KEY": "", "WITHHELD": ""}
    assert set(env) <= {"PATH", "HOME", "TMPDIR", "LANG", "NODE_ENV"}
    assert Path(json.loads(body)["cwd"]).name.startswith(function.digest)


async def test_two_overlapping_activations_with_one_id_are_one(bench: Bench) -> None:
    stub, _ = await bench.generic()
    bench.api.go_on.clear()
    function = bench.api.function()
    calls = [asyncio.create_task(stub.activate(bench.order("a1", function))) for _ in range(2)]
    await bench.api.asked.wait()
    with pytest.raises(GRPCError) as refused:
        await stub.activate(bench.order("a2", function))
    assert refused.value.status is Status.FAILED_PRECONDITION
    assert "activating" in (refused.value.message or "")
    bench.api.go_on.set()
    first, second = await asyncio.gather(*calls)
    assert first == second
    assert await stub.activate(bench.order("a1", function)) == first
    assert len(bench.api.fetches) == 1


async def test_two_pods_that_want_the_same_bundle_fetch_it_once(bench: Bench) -> None:
    (one, _), (two, _) = await asyncio.gather(bench.generic("pod-1"), bench.generic("pod-2"))
    bench.api.go_on.clear()
    function = bench.api.function()
    calls = [
        asyncio.create_task(stub.activate(bench.order(id, function)))
        for stub, id in ((one, "a1"), (two, "a2"))
    ]
    await bench.api.asked.wait()
    bench.api.go_on.set()
    assert all(answer.loaded is not None for answer in await asyncio.gather(*calls))
    await one.recycle(pb.RecycleRequest(activation_id="a1"))
    assert (await one.activate(bench.order("a3", function))).loaded is not None
    assert len(bench.api.fetches) == 1


async def test_an_activation_whose_caller_went_away_is_finished(bench: Bench) -> None:
    stub, _ = await bench.generic()
    bench.api.go_on.clear()
    call = asyncio.create_task(stub.activate(bench.order("a1", bench.api.function())))
    await bench.api.asked.wait()
    call.cancel()
    await asyncio.wait({call})
    bench.api.go_on.set()
    assert (await bench.phase(stub, pb.PodPhase.ACTIVE)).activation_id == "a1"


async def test_code_that_does_not_load_gives_its_stack_and_spends_the_pod(bench: Bench) -> None:
    stub, pod = await bench.generic()
    function = bench.api.function("throw new TypeError('no way')")
    answer = await stub.activate(bench.order("a1", function))
    assert answer.failed is not None
    assert answer.failed.message == "no way"
    assert "function.js:1" in answer.failed.stack
    assert await stub.activate(bench.order("a1", function)) == answer
    assert (await stub.get_state(pb.GetStateRequest())).reason == "load failed: no way"
    assert pod.phase.value == "gone"


async def test_a_module_that_exits_while_loading_is_a_failed_load(bench: Bench) -> None:
    stub, _ = await bench.generic()
    answer = await stub.activate(bench.order("a1", bench.api.function("process.exit(3)")))
    assert answer.failed is not None
    assert "code 3" in answer.failed.message


async def test_a_module_that_never_ends_loading_is_a_failed_load(bench: Bench) -> None:
    stub, _ = await bench.generic(load_timeout=0.3)
    answer = await stub.activate(bench.order("a1", bench.api.function("for (;;) {}")))
    assert answer.failed is not None
    assert "0.3 s" in answer.failed.message


async def test_drain_refuses_new_requests_and_recycle_waits_for_the_running_one(
    bench: Bench,
) -> None:
    stub, _ = await bench.generic()
    source = "module.exports = (req, res) => { process.once('finish', () => res.send('late')); console.log('in') }"
    source += (
        "\nsetInterval(() => require('fs').existsSync(process.env.GO) && process.emit('finish'), 5)"
    )
    function = bench.api.function(source, env={"GO": str(bench.path / "go")})
    answer = await stub.activate(bench.order("a1", function))
    assert answer.loaded is not None
    address = answer.loaded.address
    running = asyncio.create_task(bench.get(address, "/fn/hello", "a1"))
    await bench.said(stub, "in")
    assert (await stub.drain(pb.DrainRequest(activation_id="a1"))).in_flight == 1
    assert (await bench.get(address, "/fn/hello", "a1"))[0] == 421
    recycling = asyncio.create_task(
        stub.recycle(pb.RecycleRequest(activation_id="a1", grace_ms=5000))
    )
    (bench.path / "go").touch()
    assert await running == (200, "late")
    assert (await recycling).phase is pb.PodPhase.GENERIC


async def test_recycle_ends_a_request_that_outlasts_its_grace(bench: Bench) -> None:
    stub, _ = await bench.generic()
    answer = await stub.activate(
        bench.order(
            "a1", bench.api.function("module.exports = () => { console.log('in'); for (;;) {} }")
        )
    )
    assert answer.loaded is not None
    running = asyncio.create_task(bench.get(answer.loaded.address, "/fn/hello", "a1"))
    await bench.said(stub, "in")
    state = await stub.recycle(pb.RecycleRequest(activation_id="a1", grace_ms=200))
    assert state.phase is pb.PodPhase.GENERIC
    with pytest.raises((ConnectionError, IndexError)):
        await running


async def test_a_recycle_may_be_repeated_and_a_stale_one_is_refused(bench: Bench) -> None:
    stub, pod = await bench.generic()
    function = bench.api.function()
    await stub.activate(bench.order("a1", function))
    request = pb.RecycleRequest(activation_id="a1", grace_ms=100)
    states = await asyncio.gather(stub.recycle(request), stub.recycle(request))
    pid = bench.node_pid(pod)
    assert states[0] == states[1] == await stub.recycle(request)
    assert bench.node_pid(pod) == pid
    await stub.activate(bench.order("a2", function))
    for call in (stub.recycle(request), stub.drain(pb.DrainRequest(activation_id="a1"))):
        with pytest.raises(GRPCError) as refused:
            await call
        assert refused.value.status is Status.FAILED_PRECONDITION


async def test_a_recycle_during_an_activation_comes_after_it(bench: Bench) -> None:
    stub, _ = await bench.generic()
    bench.api.go_on.clear()
    activating = asyncio.create_task(stub.activate(bench.order("a1", bench.api.function())))
    await bench.api.asked.wait()
    recycling = asyncio.create_task(stub.recycle(pb.RecycleRequest(activation_id="a1")))
    bench.api.go_on.set()
    assert (await activating).loaded is not None
    assert (await recycling).phase is pb.PodPhase.GENERIC


async def test_what_a_function_wrote_is_wiped_at_its_recycle(bench: Bench) -> None:
    stub, _ = await bench.generic()
    source = """
    const fs = require('fs'), os = require('os')
    fs.mkdirSync(os.tmpdir() + '/a/b', { recursive: true })
    fs.writeFileSync(os.tmpdir() + '/a/b/c', 'x')
    fs.symlinkSync('/', os.tmpdir() + '/root')
    fs.chmodSync(os.tmpdir() + '/a', 0)
    module.exports = (req, res) => res.send(os.tmpdir())
    """
    answer = await stub.activate(bench.order("a1", bench.api.function(source)))
    assert answer.loaded is not None
    home = Path((await bench.get(answer.loaded.address, "/fn/hello", "a1"))[1])
    assert (home / "root").is_symlink()
    before = bench.left()
    await stub.recycle(pb.RecycleRequest(activation_id="a1"))
    assert not home.exists()
    assert home.parent.name in before
    assert len(bench.left()) == 1


async def test_children_of_a_function_die_with_its_activation(bench: Bench) -> None:
    stub, _ = await bench.generic()
    source = """
    const child = require('child_process').spawn('sleep', ['1000'])
    module.exports = (req, res) => res.send(String(child.pid))
    """
    answer = await stub.activate(bench.order("a1", bench.api.function(source)))
    assert answer.loaded is not None
    child = psutil.Process(int((await bench.get(answer.loaded.address, "/fn/hello", "a1"))[1]))
    await stub.recycle(pb.RecycleRequest(activation_id="a1"))
    # Its orphan is reaped by whoever is next above; dead it is in any case.
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("when", ["generic", "fetching", "active", "draining"])
async def test_a_node_process_that_is_killed_takes_its_pod_with_it(bench: Bench, when: str) -> None:
    stub, pod = await bench.generic()
    source = "module.exports = () => console.log('in')"
    activating = None
    if when == "fetching":
        bench.api.go_on.clear()
        activating = asyncio.create_task(stub.activate(bench.order("a1", bench.api.function())))
        await bench.api.asked.wait()
    elif when != "generic":
        answer = await stub.activate(bench.order("a1", bench.api.function(source)))
        assert answer.loaded is not None
    if when == "draining":
        await stub.drain(pb.DrainRequest(activation_id="a1"))
    os.kill(bench.node_pid(pod), signal.SIGKILL)
    state = await bench.phase(stub, pb.PodPhase.GONE)
    assert state.reason == "killed by SIGKILL"
    if activating is not None:
        with pytest.raises(GRPCError) as lost:
            await activating
        assert lost.value.status is Status.ABORTED
        bench.api.go_on.set()


async def test_a_node_process_killed_while_it_loads_is_no_fault_of_the_code(bench: Bench) -> None:
    stub, pod = await bench.generic()
    source = f"require('fs').writeFileSync({str(bench.path / 'loading')!r}, 'x'); for (;;) {{}}"
    activating = asyncio.create_task(stub.activate(bench.order("a1", bench.api.function(source))))
    await _exists(bench.path / "loading")
    os.kill(bench.node_pid(pod), signal.SIGKILL)
    with pytest.raises(GRPCError) as lost:
        await activating
    assert lost.value.status is Status.ABORTED


async def test_a_crash_is_told_with_its_cause(bench: Bench) -> None:
    stub, pod = await bench.generic()
    await stub.activate(bench.order("a1", bench.api.function()))
    os.kill(bench.node_pid(pod), signal.SIGSEGV)
    assert (await bench.phase(stub, pb.PodPhase.GONE)).reason == "killed by SIGSEGV"
    with pytest.raises(GRPCError) as refused:
        await stub.recycle(pb.RecycleRequest(activation_id="a1"))
    assert refused.value.status is Status.ABORTED


async def test_logs_follow_one_activation_and_end_with_it(bench: Bench) -> None:
    stub, _ = await bench.generic(log_lines=3)
    source = """
    for (let i = 1; i <= 5; i++) console.log('line ' + i)
    process.stderr.write('oops\\n')
    module.exports = (req, res) => { console.warn('careful'); res.send('') }
    """
    answer = await stub.activate(bench.order("a1", bench.api.function(source, version=7)))
    assert answer.loaded is not None
    seen: list[pb.LogLine] = []
    careful = asyncio.Event()

    async def follow() -> None:
        async for line in stub.stream_logs(pb.PodLogsRequest(follow=True, tail=1)):
            seen.append(line)
            if line.text == "careful":
                careful.set()

    following = asyncio.create_task(follow())
    await bench.get(answer.loaded.address, "/fn/hello", "a1")
    await careful.wait()
    kept = [line async for line in stub.stream_logs(pb.PodLogsRequest())]
    assert [line.text for line in kept] == ["line 5", "oops", "careful"]
    assert kept[1].level is pb.LogLevel.ERROR
    assert (kept[2].level, kept[2].pod, kept[2].version) == (pb.LogLevel.WARNING, "pod-1", 7)
    await stub.recycle(pb.RecycleRequest(activation_id="a1"))
    await following
    assert len([line async for line in stub.stream_logs(pb.PodLogsRequest())]) == 3
    await stub.activate(bench.order("a2", bench.api.function()))
    assert [line async for line in stub.stream_logs(pb.PodLogsRequest())] == []


async def test_output_of_native_code_and_children_is_logged_too(bench: Bench) -> None:
    stub, _ = await bench.generic()
    source = """
    require('child_process').spawnSync('echo', ['from a child'], { stdio: 'inherit' })
    module.exports = () => {}
    """
    await stub.activate(bench.order("a1", bench.api.function(source)))
    async with asyncio.timeout(5):
        async for line in stub.stream_logs(pb.PodLogsRequest(follow=True)):
            assert (line.text, line.level) == ("from a child", pb.LogLevel.INFO)
            break


async def test_nonsense_is_refused_with_the_field(bench: Bench) -> None:
    stub, _ = await bench.generic()
    good = bench.api.function()
    bad: list[tuple[str, pb.ActivatePodRequest]] = [
        ("activation_id", bench.order("", good)),
        ("function", pb.ActivatePodRequest(activation_id="a1")),
    ]
    for field, value in (
        ("digest", "../../etc"),
        ("entry", "../x.js"),
        ("entry", "/x.js"),
        ("name", ""),
    ):
        function = pb.FunctionVersion.parse(bytes(good))
        setattr(function, field, value)
        bad.append((field if field != "name" else "function", bench.order("a1", function)))
    for field, request in bad:
        with pytest.raises(GRPCError) as refused:
            await stub.activate(request)
        assert refused.value.status is Status.INVALID_ARGUMENT
        assert field in (refused.value.message or "")
    assert (await stub.get_state(pb.GetStateRequest())).phase is pb.PodPhase.GENERIC


async def _exists(path: Path) -> None:
    async with asyncio.timeout(5):
        while not path.exists():  # noqa: ASYNC110  # nothing tells of another process
            await asyncio.sleep(0.005)
