"""Pods that load while their controller is replaced: requests that wait in them are not lost, and none runs what
has been replaced."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpclib import GRPCError, Status
from sanfran_controller import partings
from sanfran_proto.sanfran import v1 as pb

from controller.tests.test_controller_early import ACTIVATING, GENERIC, Fence, Gate, early, make

World = Any
ACTIVE = pb.PodPhase.ACTIVE


async def left_loading(world: World) -> Any:
    """A pod that loads version 1, of which a router was told by a controller that is gone."""
    async with world.controller() as router:
        await early(router)
        (pod,) = world.host.in_phase(ACTIVATING)
    assert pod.phase is ACTIVATING
    return pod


async def test_a_load_under_way_outlasts_its_controller_and_serves_the_next(world: World) -> None:
    world.api.put("hello")
    gate = Gate(world)
    pod = await left_loading(world)
    async with world.controller() as router:
        told = await early(router)  # the load counts as the function's activation here, too
        assert told.endpoints[0].activation_id == pod.activation_id
        settled = asyncio.create_task(router.activate("hello"))
        await asyncio.sleep(0.05)
        gate.open.set()
        assert (await settled).endpoints == told.endpoints
        assert world.host.serving("hello") == [pod]
        assert len(world.host.activations) == 1


async def test_a_load_that_ended_between_two_controllers_serves_the_next(world: World) -> None:
    world.api.put("hello")
    gate = Gate(world)
    pod = await left_loading(world)
    gate.open.set()
    await world.host.until(lambda: pod.phase is ACTIVE)
    async with world.controller() as router:
        assert (await router.activate("hello")).endpoints[0].activation_id == pod.activation_id
        assert len(world.host.activations) == 1


async def test_code_that_does_not_load_after_its_controller_was_replaced_is_told(
    world: World,
) -> None:
    world.api.put("hello")
    gate = Gate(world)
    world.host.broken = lambda function: "SyntaxError"
    pod = await left_loading(world)
    async with world.controller() as router:
        asking = asyncio.create_task(router.activate("hello"))
        await asyncio.sleep(0.05)
        gate.open.set()
        with pytest.raises(GRPCError) as refused:
            await asking
        assert refused.value.status is Status.FAILED_PRECONDITION
        await world.host.until(lambda: pod.name not in world.host.pods)
        assert len(world.host.activations) == 1


@pytest.mark.parametrize("change", ["update", "delete"])
async def test_an_older_version_that_loads_is_fenced_when_it_has_and_only_then_the_change_is_acknowledged(
    world: World, change: str
) -> None:
    world.api.put("hello")
    gate = Gate(world)
    pod = await left_loading(world)
    change_is = make(world, change)
    fence = Fence(world)
    starting = world.controller(sync_patience=0.2)
    async with starting as router:
        assert change_is not in world.api.applied
        pod.running = 1  # what waited in it
        gate.open.set()
        await fence.asked.wait()
        await asyncio.sleep(
            partings.LOAD_PATIENCE
        )  # it has loaded: nobody's patience ends with it any more
        assert change_is not in world.api.applied
        assert pod.name in world.host.pods
        fence.open.set()
        await world.api.until_applied(change_is)
        assert pod.phase is pb.PodPhase.DRAINING
        pod.running = 0
        world.host.changes.tell()
        await world.host.until(lambda: pod.phase is GENERIC)
        assert not router.routes.get("hello", pb.Route()).endpoints


async def test_an_older_version_that_loads_for_long_is_ended_when_nothing_waits_in_it_any_more(
    world: World,
) -> None:
    world.api.put("hello")
    Gate(world)
    pod = await left_loading(world)
    change_is = world.api.put("hello")
    async with world.controller(sync_patience=0.2) as router:
        await asyncio.sleep(0.3)
        assert pod.name in world.host.pods
        assert change_is not in world.api.applied
        await world.api.until_applied(change_is)
        assert pod.name not in world.host.pods
        assert (await router.activate("hello")).version == 2


@pytest.mark.parametrize("change", ["update", "delete"])
async def test_a_change_during_a_load_that_was_taken_over_waits_for_it(
    world: World, change: str
) -> None:
    world.api.put("hello")
    gate = Gate(world)
    pod = await left_loading(world)
    async with world.controller() as router:
        await early(router)
        change_is = make(world, change)
        await router.until(lambda: router.routes.get("hello"))
        assert change_is not in world.api.applied
        gate.open.set()
        await world.api.until_applied(change_is)
        assert pod.phase is not ACTIVE
