"""Sidecar and keeper: either is killed, started anew or told to stop while the other runs."""

from __future__ import annotations

import asyncio
import signal

import psutil
import pytest
from sanfran_proto.sanfran import v1 as pb

from sidecar.tests.conftest import Bench
from sidecar.tests.keeper.conftest import LEAVES_EVERYTHING, TwoContainers, ended, namespaces, until


@namespaces
async def test_a_sidecar_whose_container_s_other_half_ends_ends_too_and_the_next_one_meets_the_next(
    pod: TwoContainers, bench: Bench
) -> None:
    pod.start_keeper()
    sidecar = await pod.start_sidecar()
    stub = await pod.stub()
    await stub.activate(bench.order("a1", pod.api.function()))
    assert pod.keeper is not None
    pod.keeper.kill()
    pod.keeper.wait()
    assert (await ended(stub)).phase is pb.PodPhase.GONE
    async with asyncio.timeout(10):
        assert await sidecar.process.wait() == 1
    pod.start_keeper()
    await pod.start_sidecar()
    state = await (await pod.stub()).get_state(pb.GetStateRequest())
    assert (state.phase, state.activation_id) == (pb.PodPhase.GENERIC, "")


@namespaces
async def test_a_killed_sidecar_takes_the_function_with_it_and_the_next_one_gets_a_fresh_process(
    pod: TwoContainers, bench: Bench
) -> None:
    pod.start_keeper()
    sidecar = await pod.start_sidecar()
    stub = await pod.stub()
    # Told to stop, be it by the function, the keeper would end with its sidecar.
    source = LEAVES_EVERYTHING.replace("'SIGTERM', ", "")
    answer = await stub.activate(bench.order("a1", pod.api.function(source)))
    assert answer.loaded is not None
    await bench.get(answer.loaded.address, "/fn/hello", "a1")
    keeper = pod.inside()[0]
    await sidecar.stop(signal.SIGKILL)

    def only_strays() -> bool:
        try:
            return {one.name() for one in pod.inside()[1:]} <= {"sleep"}
        except psutil.NoSuchProcess:  # it ended while we looked
            return False

    await until(only_strays)
    await pod.start_sidecar()
    await pod.nothing_but_the_runtime()
    assert pod.inside()[0] == keeper
    assert (await (await pod.stub()).get_state(pb.GetStateRequest())).phase is pb.PodPhase.GENERIC


@namespaces
async def test_a_sidecar_that_died_before_it_met_its_keeper_leaves_a_way_for_the_next(
    pod: TwoContainers,
) -> None:
    starting = asyncio.create_task(pod.start_sidecar())
    await until((pod.volume / "meet/orders").is_fifo)
    first = next(
        one for one in psutil.Process().children() if "sanfran_sidecar.main" in one.cmdline()
    )
    first.kill()
    with pytest.raises(AssertionError):
        await starting
    pod.start_keeper()  # now waits in its open()
    await asyncio.sleep(0.3)
    await pod.start_sidecar()
    await pod.nothing_but_the_runtime()


@namespaces
async def test_a_container_that_is_to_stop_waits_for_its_sidecar_and_then_ends_by_itself(
    pod: TwoContainers, bench: Bench
) -> None:
    pod.start_keeper()
    sidecar = await pod.start_sidecar()
    stub = await pod.stub()
    slow = "module.exports = (req, res) => setTimeout(() => res.send('done'), 800)"
    answer = await stub.activate(bench.order("a1", pod.api.function(slow)))
    assert answer.loaded is not None
    calling = asyncio.create_task(bench.get(answer.loaded.address, "/fn/hello", "a1"))
    await asyncio.sleep(0.2)
    pod.inside()[0].terminate()
    assert await sidecar.stop() == 0
    assert await calling == (200, "done")
    assert pod.keeper is not None
    assert await asyncio.to_thread(pod.keeper.wait, 10) == 0
