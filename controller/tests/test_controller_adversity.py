"""Slow sidecars, an api service that is away for a moment, a process that stood still, a full house."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from grpclib import GRPCError, Status
from sanfran_controller import activation, autoscale, updates
from sanfran_controller.functions import FAILURE_FIRST, Function
from sanfran_controller.scaling import Scaler, ScalingPolicy
from sanfran_proto.sanfran import v1 as pb

GENERIC = pb.PodPhase.GENERIC


async def hang(pod: Any) -> None:
    await asyncio.sleep(60)


async def refusal(router: Any, name: str) -> Status:
    with pytest.raises(GRPCError) as caught:
        await router.activate(name)
    return caught.value.status


async def test_a_sidecar_that_answers_nothing_is_not_the_codes_fault(world: Any) -> None:
    world.api.put("hello")
    world.host.on_load = hang
    async with world.controller(activation_timeout=0.3) as router:
        world.host.silent = True
        assert await refusal(router, "hello") is Status.UNAVAILABLE
        assert (await router.status("hello")).load_error == ""


async def test_a_pod_that_came_too_late_to_load_is_not_the_codes_fault(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activation, "LEAST_CALL", 0.05)
    world.api.put("hello")
    world.host.on_load = hang
    world.host.start_delay = 0.5
    async with world.controller(pool_size=0, activation_timeout=0.7) as router:
        assert await refusal(router, "hello") is Status.RESOURCE_EXHAUSTED
        assert (await router.status("hello")).load_error == ""


async def test_a_pool_of_pods_that_died_together_costs_a_cold_call_nothing_but_time(
    world: Any,
) -> None:
    world.api.put("hello")
    async with world.controller(pool_size=5) as router:
        for pod in world.host.in_phase(GENERIC):
            await world.host._kill(pod)
        assert (await router.activate("hello")).endpoints


async def test_a_bundle_that_is_away_for_a_moment_is_waited_for(world: Any) -> None:
    world.api.put("hello")
    back_at = time.monotonic() + 0.4
    world.host.no_bundle = lambda function: time.monotonic() < back_at
    async with world.controller() as router:
        assert (await router.activate("hello")).endpoints
        assert world.host.asked <= 3


def test_flights_that_fail_together_are_one_failure() -> None:
    function = Function("bad", Scaler(ScalingPolicy(), 0.0))
    version = pb.FunctionVersion(name="bad", version=1)
    for _ in range(5):
        function.failed(version, "broken", "", now=10.0)
    assert function.failure is not None
    assert function.failure.until == 10.0 + FAILURE_FIRST
    function.failed(version, "broken", "", now=20.0)
    assert function.failure.until == 20.0 + 2 * FAILURE_FIRST
    function.failed(pb.FunctionVersion(name="bad", version=2), "broken", "", now=21.0)
    assert function.failure.until == 21.0 + FAILURE_FIRST


async def test_code_that_did_not_load_is_tried_again_with_one_pod_whatever_min_scale(
    world: Any,
) -> None:
    world.api.put("bad", min_scale=3)
    world.host.broken = lambda function: "broken"
    async with world.controller(pool_size=3):
        await world.host.until(lambda: len(world.host.activations) == 3)
        await world.host.until(lambda: len(world.host.activations) > 3)
        await world.host.until(lambda: len(world.host.in_phase(GENERIC)) == 3)
        assert len(world.host.activations) == 4


async def test_a_kept_function_that_lies_idle_keeps_no_other_from_making_room(world: Any) -> None:
    world.api.put("kept", min_scale=1)
    world.api.put("other")
    world.api.put("new")
    async with world.controller(pool_size=0, max_pods=2) as router:
        await world.host.until(lambda: world.host.serving("kept"))
        await router.activate("other")
        assert (await router.activate("new")).endpoints
        assert world.host.serving("kept")
        assert not world.host.serving("other")


async def test_an_update_keeps_to_its_own_max_scale(world: Any) -> None:
    world.api.put("busy", max_scale=3)
    async with world.controller(pool_size=4) as router:
        for _ in range(3):
            await router.activate("busy", saturated=True)
        await router.report("busy", in_flight=3)
        await asyncio.sleep(1.1)  # the autoscaler has sampled the demand
        await world.api.until_applied(world.api.put("busy", max_scale=1))
        assert [version for _, _, version in world.host.activations].count(2) == 1


async def test_an_update_at_the_cap_gets_the_pod_of_the_old_version(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "ACTIVATE_PATIENCE", 0.2)
    world.api.put("hello")
    async with world.controller(pool_size=1, max_pods=1) as router:
        await router.activate("hello")
        await router.report("hello", in_flight=1)
        await world.api.until_applied(world.api.put("hello"))
        assert (await router.activate("hello")).version == 2
        assert world.host.most == 1


async def test_a_tick_over_many_functions_lets_others_run_in_between(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoscale, "AT_A_TIME", 1)
    for number in range(3):
        world.api.put(f"f{number}", min_scale=1)
    looks: list[str] = []
    look = autoscale.Autoscaler._look

    def looked(self: autoscale.Autoscaler, function: Function, now: float) -> None:
        looks.append(function.name)
        asyncio.get_running_loop().call_soon(looks.append, "another")
        look(self, function, now)

    async with world.controller(pool_size=3):
        await world.host.until(lambda: len(world.host.in_phase(pb.PodPhase.ACTIVE)) == 3)
        monkeypatch.setattr(autoscale.Autoscaler, "_look", looked)
        while len(looks) < 6:  # noqa: ASYNC110  # the tick tells nobody of itself
            await asyncio.sleep(0.05)
        assert looks[1:6:2] == ["another"] * 3


async def test_a_process_that_stood_still_takes_no_silence_for_idleness(world: Any) -> None:
    world.api.put("hello", idle_timeout_ms=2000)
    async with world.controller() as router:
        await router.activate("hello")
        await router.report("hello", in_flight=1)
        time.sleep(3.2)  # noqa: ASYNC251  # nothing of this process runs
        await asyncio.sleep(0.1)
        await router.report("hello", in_flight=1)
        assert world.host.serving("hello")
        assert router.routes["hello"].endpoints


async def test_no_update_is_acknowledged_before_pods_left_behind_refuse_requests(
    world: Any,
) -> None:
    world.api.put("hello")
    async with world.controller() as router:
        await router.activate("hello")
    asked, gate = asyncio.Event(), asyncio.Event()

    async def on_drain(pod: Any) -> None:
        asked.set()
        await gate.wait()

    world.host.on_drain = on_drain
    world.api.put("hello")

    async def restart() -> None:
        async with world.controller() as router:
            assert (await router.activate("hello")).version == 3

    restarted = asyncio.ensure_future(restart())
    await asked.wait()
    revision = world.api.put("hello")
    await asyncio.sleep(0.2)  # in which it would have come
    assert world.api.applied.isdisjoint({revision - 1, revision})
    gate.set()
    await world.api.until_applied(revision)
    await restarted
