"""The watch over a process: its event loop, its memory, what it leaves."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sanfran_proto.sanfran import v1 as pb
from sanfran_sidecar import compiled, vigil
from sanfran_sidecar.compiled import CompiledCode
from sanfran_sidecar.errors import NoAnswer
from sanfran_sidecar.logs import LAST_CHARACTERS, LAST_LINES, ActivationLog
from sanfran_sidecar.memory import SessionMemory
from sanfran_sidecar.vigil import watch_loop

if TYPE_CHECKING:
    from conftest import Bench

TYPED = "export default (req: any, res: any): void => res.send(typeof req);\n"


async def last_state(stub: pb.SidecarStub) -> pb.PodState:
    """What a watcher hears last."""
    async with asyncio.timeout(20):
        async for state in stub.watch_state(pb.GetStateRequest()):
            newest = state
    return newest


async def test_a_held_event_loop_ends_the_process_soon_after_the_timeout(bench: Bench) -> None:
    stub, pod = await bench.generic()
    function = bench.api.function("module.exports = () => { for (;;); };")
    function.settings = pb.FunctionSettings(timeout_ms=600)
    answer = await stub.activate(bench.order("a1", function))
    assert answer.loaded is not None
    calling = asyncio.create_task(bench.get(answer.loaded.address, "/fn/hello", "a1"))
    state = await last_state(stub)
    assert state.reason == "timeout: its event loop was held for more than 0.6 s"
    assert state.crashed
    assert state.last_words[-1].text == f"the process is over: {state.reason}"
    await asyncio.wait({calling})
    assert isinstance(calling.exception(), (ConnectionError, IndexError))
    assert pod.phase.value == "gone"


class HeldRuntime:
    """Answers the first question, and no more."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.patience: list[float] = []
        self.given_up = ""

    async def memory(self) -> int:
        return 0

    async def ping(self, timeout: float) -> None:
        self.patience.append(timeout)
        if len(self.patience) > 1:
            raise NoAnswer("held")

    def give_up(self, why: str) -> None:
        self.given_up = why


async def test_a_router_has_time_to_say_504_before_the_process_ends() -> None:
    runtime = HeldRuntime()
    await watch_loop(runtime, 2.0)
    router_is_late_by = 0.1  # a tick of its wheel
    assert min(runtime.patience) >= 2.0 + 2 * router_is_late_by
    assert min(runtime.patience) + vigil.ASK_EVERY + vigil.SECOND_LOOK < 2.0 + 1.0
    assert runtime.given_up == "timeout: its event loop was held for more than 2 s"


async def test_a_module_that_takes_too_much_memory_while_it_loads_is_a_failed_load(
    bench: Bench,
) -> None:
    stub, _ = await bench.generic()
    source = "globalThis.all = []; for (;;) all.push(Buffer.alloc(1e6, 1));"
    function = bench.api.function(source)
    function.settings = pb.FunctionSettings(memory_mb=100)
    answer = await stub.activate(bench.order("a1", function))
    assert answer.failed is not None
    assert "out_of_memory" in answer.failed.message
    assert "100 MB are allowed" in answer.failed.message


async def test_a_pod_that_is_recycled_leaves_its_last_words_with_the_answer(bench: Bench) -> None:
    stub, _ = await bench.generic()
    source = "console.log('loaded'); module.exports = () => {};"
    await stub.activate(bench.order("a1", bench.api.function(source)))
    await bench.said(stub, "loaded")
    state = await stub.recycle(pb.RecycleRequest(activation_id="a1"))
    assert [line.text for line in state.last_words] == ["loaded"]
    assert not (await stub.get_state(pb.GetStateRequest())).last_words


async def test_last_words_fit_a_message() -> None:
    log = ActivationLog("pod-1", 1, max_lines=1000)
    for n in range(1000):
        log.append("info", str(n))
    assert [line.text for line in log.last_words()] == [str(n) for n in range(1000)][-LAST_LINES:]
    for _ in range(20):
        log.append("info", "x" * 8000)
    assert 0 < sum(len(line.text) for line in log.last_words()) <= LAST_CHARACTERS


@pytest.fixture
def fat_session() -> Iterator[int]:
    """The pid of a process that has little memory and a child that has 100 MB."""
    child = "all = bytearray(b'x') * 100_000_000; print('here', flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate(b"\n")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_what_a_process_started_counts_as_its_own_memory(fat_session: int) -> None:
    memory = SessionMemory()
    assert 100e6 < await memory.of(fat_session) < 150e6
    assert await memory.of(2**22 + 1) == 0


async def test_typescript_without_its_types_is_there_for_the_next_process(bench: Bench) -> None:
    function = bench.api.function({"function.ts": TYPED})
    function.entry = "function.ts"
    stub, _ = await bench.generic()
    for activation in ("a1", "a2"):
        answer = await stub.activate(bench.order(activation, function))
        assert answer.loaded is not None
        assert await bench.get(answer.loaded.address, "/fn/hello", activation) == (200, "object")
        async with asyncio.timeout(10):
            while not list(bench.path.glob("**/compiled-*/hello/*/*")):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await stub.recycle(pb.RecycleRequest(activation_id=activation))


def test_each_function_has_its_own_compiled_code_and_it_goes_with_its_bundle(
    tmp_path: Path,
) -> None:
    code, bundle = CompiledCode(tmp_path), tmp_path / ("0" * 64 + ".4096")
    one, two = code.folder(bundle, "one"), code.folder(bundle, "two")
    assert one is not None
    assert two is not None
    assert one != two
    code.restore({bundle.name})
    assert one.exists()
    code.restore(set())
    assert not code.has(bundle)


async def test_too_much_compiled_code_is_removed_unless_it_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "MAX_BYTES", 1000)
    code, bundle = CompiledCode(tmp_path), tmp_path / ("0" * 64 + ".4096")
    folder = code.folder(bundle, "one")
    assert folder is not None
    (folder / "a").write_bytes(bytes(900))
    await code.limit(bundle, lambda: False)
    assert code.has(bundle)
    os.truncate(folder / "a", 1100)
    await code.limit(bundle, lambda: True)
    assert code.has(bundle)
    await code.limit(bundle, lambda: False)
    assert list(tmp_path.iterdir()) == []
