"""Routes to pods that still load: who is told, and that nothing replaced is served after an update."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpclib import GRPCError, Status
from sanfran_proto.sanfran import v1 as pb

from controller.tests.simulated import PATIENCE

World = Any
ACTIVATING, GENERIC = pb.PodPhase.ACTIVATING, pb.PodPhase.GENERIC


class Gate:
    """Holds loads up."""

    def __init__(self, world: World) -> None:
        self.open = asyncio.Event()
        world.host.on_load = self.pass_through

    async def pass_through(self, pod: Any) -> None:
        if pod.function.version == 1:
            await self.open.wait()


class Fence:
    """Holds up a pod's refusal of new requests."""

    def __init__(self, world: World) -> None:
        self.asked, self.open = asyncio.Event(), asyncio.Event()
        world.host.on_drain = self.pass_through

    async def pass_through(self, pod: Any) -> None:
        self.asked.set()
        await self.open.wait()


def make(world: World, change: str) -> int:
    """An `update` or a `delete` of the function; its revision."""
    revision: int = world.api.delete("hello") if change == "delete" else world.api.put("hello")
    return revision


async def early(router: Any, name: str = "hello") -> pb.Route:
    request = pb.ActivateFunctionRequest(name=name, router="r1", early=True)
    route: pb.Route = await router.stub.activate(request, timeout=PATIENCE)
    return route


async def test_who_asks_early_is_told_of_the_pod_while_it_loads_and_nobody_else(
    world: World,
) -> None:
    world.api.put("hello", timeout_ms=1234, concurrency=7)
    gate = Gate(world)
    async with world.controller() as router:
        told = await early(router)
        (pod,) = world.host.in_phase(ACTIVATING)
        (endpoint,) = told.endpoints
        assert (told.early, told.version, told.timeout_ms, told.concurrency) == (True, 1, 1234, 7)
        assert (endpoint.address, endpoint.activation_id) == (pod.address, pod.activation_id)
        assert await early(router) == told  # the same, for as long as it loads
        assert "hello" not in router.routes
        settled = asyncio.create_task(router.activate("hello"))
        done, _ = await asyncio.wait({settled}, timeout=0.05)
        assert not done
        gate.open.set()
        assert (await settled).endpoints == told.endpoints
        assert not (await early(router)).early
        await router.until(lambda: "hello" in router.routes)
        assert len(world.host.activations) == 1


async def test_code_that_does_not_load_is_told_to_whom_asks_again(world: World) -> None:
    world.api.put("hello")
    gate = Gate(world)
    world.host.broken = lambda function: "SyntaxError"
    async with world.controller() as router:
        assert (await early(router)).early
        gate.open.set()
        for asking in (router.activate("hello"), early(router)):
            with pytest.raises(GRPCError) as refused:
                await asking
            assert refused.value.status is Status.FAILED_PRECONDITION


@pytest.mark.parametrize("change", ["update", "delete"])
async def test_an_update_is_not_acknowledged_while_a_pod_that_was_told_of_may_load_the_old_version(
    world: World, change: str
) -> None:
    world.api.put("hello")
    gate = Gate(world)
    deleting, delete = asyncio.Event(), asyncio.Event()
    kill = world.host.delete_pod

    async def slowly(message: pb.DeletePodRequest) -> pb.DeletePodResponse:
        deleting.set()
        await delete.wait()
        answer: pb.DeletePodResponse = await kill(message)
        return answer

    world.host.delete_pod = slowly
    async with world.controller() as router:
        await early(router)
        (pod,) = world.host.in_phase(ACTIVATING)
        change_is = make(world, change)
        await deleting.wait()
        # Loaded after all, in its last moments: requests that wait in it run.
        gate.open.set()
        await world.host.until(lambda: pod.phase is pb.PodPhase.ACTIVE)
        await asyncio.sleep(0.05)
        assert change_is not in world.api.applied
        delete.set()
        await world.api.until_applied(change_is)
        assert pod.name not in world.host.pods
        if change == "update":
            assert (await router.activate("hello")).version == 2


@pytest.mark.parametrize("change", ["update", "delete"])
async def test_a_change_that_meets_the_end_of_a_load_costs_no_request_that_has_begun_in_the_pod(
    world: World, change: str
) -> None:
    world.api.put("hello")
    gate = Gate(world)
    fence = Fence(world)
    async with world.controller() as router:
        await early(router)
        (pod,) = world.host.in_phase(ACTIVATING)
        change_is = make(world, change)
        told = await router.until(lambda: router.routes.get("hello"))
        assert told.deleted if change == "delete" else (told.version, told.endpoints) == (2, [])
        pod.running = 1  # what waited in it
        gate.open.set()
        await fence.asked.wait()
        assert change_is not in world.api.applied
        fence.open.set()
        await world.api.until_applied(change_is)
        if change == "update":
            assert (await router.activate("hello")).version == 2
        assert pod.phase is pb.PodPhase.DRAINING
        pod.running = 0
        world.host.changes.tell()
        await world.host.until(lambda: pod.phase is GENERIC)


async def test_an_update_does_not_wait_for_a_pod_that_nobody_was_told_of(world: World) -> None:
    world.api.put("hello")
    gate = Gate(world)
    async with world.controller() as router:
        asking = asyncio.create_task(router.activate("hello"))
        await world.host.until(lambda: world.host.in_phase(ACTIVATING))
        await world.api.until_applied(world.api.put("hello"))
        (old,) = world.host.in_phase(ACTIVATING)
        gate.open.set()
        assert (await asking).version == 2
        await world.host.until(lambda: old.phase is GENERIC)  # recycled, not killed


async def test_a_pod_that_dies_while_it_loads_is_followed_by_another(world: World) -> None:
    world.api.put("hello")
    gate = Gate(world)
    async with world.controller() as router:
        told = await early(router)
        (pod,) = world.host.in_phase(ACTIVATING)
        pod.crash()
        gate.open.set()
        settled = await router.activate("hello")
        assert not settled.early
        assert settled.endpoints != told.endpoints
        await world.api.until_applied(world.api.put("hello"))


async def test_a_pod_whose_bundle_is_not_there_goes_back_without_its_activation(
    world: World,
) -> None:
    world.api.put("hello")
    world.host.no_bundle = lambda function: True
    async with world.controller(pool_size=1) as router:
        told = await early(router)
        world.host.no_bundle = lambda function: False
        settled = await router.activate("hello")
        assert settled.endpoints[0].pod == told.endpoints[0].pod
        assert settled.endpoints[0].activation_id != told.endpoints[0].activation_id


async def test_a_caller_that_leaves_before_its_pod_loads_costs_nothing(world: World) -> None:
    world.api.put("hello")
    world.host.start_delay = 0.2
    async with world.controller(pool_size=1) as router:
        await router.activate("hello", saturated=True)
        world.api.put("other")
        asking = asyncio.create_task(early(router, "other"))
        await asyncio.sleep(0.05)
        asking.cancel()
        route = await early(router, "other")
        assert route.endpoints
        assert len(world.host.activations) == 2


async def test_growth_is_never_told_of_early(world: World) -> None:
    world.api.put("hello")
    async with world.controller() as router:
        await router.activate("hello")
        request = pb.ActivateFunctionRequest(name="hello", saturated=True, early=True)
        route = await router.stub.activate(request, timeout=PATIENCE)
        assert (route.early, len(route.endpoints)) == (False, 2)


async def test_a_private_function_is_not_activated_for_callers_that_nobody_let_in(
    world: World,
) -> None:
    world.api.put("hello", invoke=pb.Invoke.PRIVATE)
    async with world.controller() as router:
        for asks in (
            pb.ActivateFunctionRequest(name="hello", router="r1"),
            pb.ActivateFunctionRequest(name="hello", router="r1", early=True),
            pb.ActivateFunctionRequest(name="hello", router="r1", saturated=True),
        ):
            told = await router.stub.activate(asks, timeout=PATIENCE)
            assert (told.private, told.endpoints, told.version) == (True, [], 1)
        assert world.host.activations == []
        let_in = pb.ActivateFunctionRequest(name="hello", router="r1", authorized=True)
        told = await router.stub.activate(let_in, timeout=PATIENCE)
        assert (told.private, len(told.endpoints)) == (True, 1)
        await router.until(lambda: "hello" in router.routes)
        assert router.routes["hello"].private
