"""Activation over real gRPC: one flight per function, deadlines, failures of pods and of code."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpclib import GRPCError, Status
from sanfran_proto.sanfran import v1 as pb


async def test_fifty_callers_of_a_cold_function_share_one_activation(world: Any) -> None:
    world.api.put("hello")
    async with world.controller() as router:
        routes = await asyncio.gather(*(router.activate("hello") for _ in range(50)))
        assert len(world.host.activations) == 1
        assert len({route.endpoints[0].activation_id for route in routes}) == 1
        route = routes[0]
        assert (route.name, route.version, route.timeout_ms, route.concurrency) == (
            "hello",
            1,
            5000,
            1,
        )
        pod = world.host.serving("hello")[0]
        assert route.endpoints[0].address == pod.address
        await router.until(lambda: router.routes.get("hello") and router.routes["hello"].endpoints)
        status = await router.status("hello")
        assert [(one.state, one.version) for one in status.pods] == [("active", 1)]
        assert status.activations == 1
        assert status.last_activation_ms > 0


async def test_the_pool_is_refilled_after_a_claim(world: Any) -> None:
    world.api.put("hello")
    async with world.controller(pool_size=2) as router:
        await router.activate("hello")
        await world.host.until(lambda: len(world.host.in_phase(2)) == 2)


async def test_an_unknown_function_is_not_found(world: Any) -> None:
    async with world.controller() as router:
        with pytest.raises(GRPCError) as caught:
            await router.activate("nobody")
        assert caught.value.status is Status.NOT_FOUND


async def test_a_function_that_the_watch_has_not_told_of_yet_is_asked_for(world: Any) -> None:
    async with world.controller() as router:
        # Behind the back of the watch, as if its event were still on the way.
        world.api.functions["new"] = pb.FunctionVersion(
            name="new", version=1, digest="00", settings=pb.FunctionSettings(concurrency=1)
        )
        assert (await router.activate("new")).version == 1
        assert world.api.gets == 1


async def test_a_burst_larger_than_the_pool_waits_for_the_pods_it_needs(world: Any) -> None:
    names = [f"f{number}" for number in range(20)]
    for name in names:
        world.api.put(name)
    world.host.start_delay = 0.05
    async with world.controller(pool_size=4, pool_max=4) as router:
        routes = await asyncio.gather(*(router.activate(name) for name in names))
        assert len({route.endpoints[0].pod for route in routes}) == 20
        await world.host.until(lambda: len(world.host.in_phase(2)) == 4)
        assert world.host.asked == 24


async def test_when_no_pod_can_be_had_in_time_the_caller_is_told(world: Any) -> None:
    world.api.put("hello")
    world.api.put("other")
    async with world.controller(pool_size=1, max_pods=1, activation_timeout=0.3) as router:
        await router.activate("other")
        await router.report("other", in_flight=1)
        with pytest.raises(GRPCError) as caught:
            await router.activate("hello")
        assert caught.value.status is Status.RESOURCE_EXHAUSTED


async def test_at_the_cap_the_longest_idle_activation_makes_room_for_the_pool(world: Any) -> None:
    for name in ("old", "young", "new"):
        world.api.put(name)
    async with world.controller(pool_size=1, max_pods=3) as router:
        for name in ("old", "young", "new"):
            await router.activate(name)
            await asyncio.sleep(0.05)
        # All become reclaimable two seconds after their use; one is enough.
        await world.host.until(lambda: world.host.in_phase(2))
        assert not world.host.serving("old")
        assert world.host.serving("young")
        assert world.host.serving("new")
        assert world.host.most == 3
        await router.until(lambda: not router.routes["old"].endpoints)


async def test_code_that_does_not_load_is_reported_and_does_not_burn_a_pod_per_call(
    world: Any,
) -> None:
    world.api.put("bad")
    world.host.broken = lambda function: "Unexpected token" if function.name == "bad" else ""
    async with world.controller() as router:
        for _ in range(5):
            with pytest.raises(GRPCError) as caught:
                await router.activate("bad")
            assert caught.value.status is Status.FAILED_PRECONDITION
            assert caught.value.message == "Unexpected token"
        assert len(world.host.activations) == 1
        status = await router.status("bad")
        assert status.load_error == "Unexpected token\nat line 1"
        world.host.broken = lambda function: ""
        revision = world.api.put("bad")
        await world.api.until_applied(revision)
        assert (await router.activate("bad")).version == 2
        assert (await router.status("bad")).load_error == ""


async def test_code_that_did_not_load_is_tried_again_after_a_while(world: Any) -> None:
    world.api.put("bad")
    world.host.broken = lambda function: "broken"
    async with world.controller() as router:
        with pytest.raises(GRPCError):
            await router.activate("bad")
        world.host.broken = lambda function: ""
        await asyncio.sleep(1.05)
        assert (await router.activate("bad")).endpoints


async def test_a_pod_that_dies_while_activating_is_replaced_by_another(world: Any) -> None:
    world.api.put("hello")
    deaths = 1

    async def die_once(pod: Any) -> None:
        nonlocal deaths
        if deaths:
            deaths -= 1
            pod.crash()

    world.host.on_load = die_once
    async with world.controller() as router:
        route = await router.activate("hello")
        assert len(world.host.activations) == 2
        assert route.endpoints[0].pod == world.host.activations[1][0]


async def test_a_function_that_kills_every_pod_costs_a_bounded_number_of_them(world: Any) -> None:
    world.api.put("hello")

    async def die(pod: Any) -> None:
        pod.crash()

    world.host.on_load = die
    async with world.controller() as router:
        with pytest.raises(GRPCError) as caught:
            await router.activate("hello")
        assert caught.value.status is Status.UNAVAILABLE
        assert len(world.host.activations) == 3


async def test_a_bundle_that_cannot_be_had_costs_no_pod(world: Any) -> None:
    world.api.put("hello")
    world.host.no_bundle = lambda function: True
    async with world.controller() as router:
        with pytest.raises(GRPCError) as caught:
            await router.activate("hello")
        assert caught.value.status is Status.UNAVAILABLE
        assert "no bundle" in str(caught.value.message)
        world.host.no_bundle = lambda function: False
        await router.activate("hello")
        assert world.host.asked <= 3


async def test_a_load_that_never_ends_is_a_load_failure(world: Any) -> None:
    world.api.put("hello")

    async def hang(pod: Any) -> None:
        await asyncio.sleep(60)

    world.host.on_load = hang
    async with world.controller(activation_timeout=0.3) as router:
        with pytest.raises(GRPCError) as caught:
            await router.activate("hello")
        assert caught.value.status is Status.FAILED_PRECONDITION
        await world.host.until(lambda: not world.host.in_phase(3))


async def test_a_caller_that_leaves_does_not_end_what_others_wait_for(world: Any) -> None:
    world.api.put("hello")
    gate = asyncio.Event()

    async def wait(pod: Any) -> None:
        await gate.wait()

    world.host.on_load = wait
    async with world.controller() as router:
        first = asyncio.ensure_future(router.activate("hello"))
        await world.host.until(lambda: world.host.in_phase(3))
        second = asyncio.ensure_future(router.activate("hello"))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        gate.set()
        assert (await second).endpoints
        assert len(world.host.activations) == 1


async def test_saturation_adds_one_pod_up_to_max_scale(world: Any) -> None:
    world.api.put("busy", max_scale=3)
    async with world.controller(pool_size=4) as router:
        for pods in (1, 2, 3, 3):
            route = await router.activate("busy", saturated=True)
            assert len(route.endpoints) == pods
        assert len(world.host.activations) == 3


async def test_starts_that_fail_are_tried_again_with_pauses(world: Any) -> None:
    world.api.put("hello")
    world.host.fail_start = lambda number: number % 5 != 0
    world.host.start_error = Status.UNAVAILABLE
    async with world.controller(pool_size=1) as router:
        assert world.host.asked == 5
        await router.activate("hello")


async def test_the_api_away_hinders_no_function_that_is_known(world: Any) -> None:
    world.api.put("hello")
    async with world.controller() as router:
        await world.api.stop()
        assert (await router.activate("hello")).endpoints
        with pytest.raises(GRPCError) as caught:
            await router.activate("unknown")
        assert caught.value.status is Status.UNAVAILABLE
        await world.api.start()
        revision = world.api.put("hello")
        await world.api.until_applied(revision)
        assert (await router.activate("hello")).version == 2


async def test_a_host_that_is_full_makes_room_by_ending_an_idle_activation(world: Any) -> None:
    for name in ("one", "two", "three"):
        world.api.put(name)
    world.host.fail_start = lambda number: len(world.host.pods) >= 2
    async with world.controller(pool_size=1) as router:
        await router.activate("one")
        await router.activate("two")
        assert (await router.activate("three")).endpoints
        assert world.host.most == 2
        assert world.host.asked < 10
