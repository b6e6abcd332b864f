"""What dies and comes back: pods, the pod host, the controller itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpclib import GRPCError, Status
from sanfran_controller.catalog_watch import OUTSTANDING_MOST
from sanfran_proto.sanfran import v1 as pb

GENERIC = pb.PodPhase.GENERIC


async def test_a_pod_that_crashes_leaves_the_routes_at_once_and_is_replaced(world: Any) -> None:
    world.api.put("hello")
    async with world.controller(pool_size=2) as router:
        await router.activate("hello")
        pod = world.host.serving("hello")[0]
        pod.crash()
        await router.until(lambda: not router.routes["hello"].endpoints)
        await world.host.until(
            lambda: pod.name not in world.host.pods and len(world.host.in_phase(GENERIC)) == 2
        )
        route = await router.activate("hello")
        assert route.endpoints[0].pod != pod.name


async def test_a_crash_under_load_is_made_up_for_without_being_asked(world: Any) -> None:
    world.api.put("hello")
    async with world.controller(pool_size=2) as router:
        await router.activate("hello")
        await router.report("hello", in_flight=1)
        await asyncio.sleep(1.1)
        pod = world.host.serving("hello")[0]
        pod.crash()
        await router.until(
            lambda: [one.pod for one in router.routes["hello"].endpoints] not in ([], [pod.name])
        )


async def test_a_generic_pod_that_crashes_is_replaced(world: Any) -> None:
    async with world.controller(pool_size=2):
        pod = world.host.in_phase(GENERIC)[0]
        pod.crash()
        await world.host.until(
            lambda: pod.name not in world.host.pods and len(world.host.in_phase(GENERIC)) == 2
        )


async def test_after_a_restart_of_the_pod_host_everything_is_rebuilt(world: Any) -> None:
    world.api.put("hello")
    world.api.put("kept", min_scale=1)
    async with world.controller(pool_size=2) as router:
        await router.activate("hello")
        await world.host.until(lambda: world.host.serving("kept"))
        await world.host.stop()
        await router.until(lambda: not router.routes["hello"].endpoints)
        await world.host.start()
        await world.host.until(lambda: world.host.serving("kept"))
        assert (await router.activate("hello")).endpoints
        await world.host.until(lambda: len(world.host.in_phase(GENERIC)) == 2)


async def test_a_restarted_controller_keeps_warm_functions_warm(world: Any) -> None:
    world.api.put("hello")
    async with world.controller(pool_size=2) as router:
        before = (await router.activate("hello")).endpoints
        await world.host.until(lambda: len(world.host.in_phase(GENERIC)) == 2)
    asked = world.host.asked
    async with world.controller(pool_size=2) as router:
        # Known before the first route is told, so that no router drops what it has.
        assert router.routes["hello"].endpoints == before
        assert (await router.activate("hello")).endpoints == before
        assert len(world.host.activations) == 1
        assert world.host.asked == asked


async def test_a_restarted_controller_ends_what_was_updated_or_deleted_meanwhile(
    world: Any,
) -> None:
    for name in ("updated", "deleted", "same"):
        world.api.put(name)
    async with world.controller(pool_size=4) as router:
        for name in ("updated", "deleted", "same"):
            await router.activate(name)
    world.api.put("updated")
    world.api.delete("deleted")
    async with world.controller(pool_size=4) as router:
        await world.host.until(lambda: not world.host.serving("deleted"))
        await world.host.until(lambda: not world.host.serving("updated"))
        assert set(router.routes) == {"same"}
        assert (await router.activate("updated")).version == 2


async def test_a_restarted_controller_learns_of_more_functions_than_may_be_outstanding_first(
    world: Any,
) -> None:
    world.api.put("hello")
    for number in range(2 * OUTSTANDING_MOST):
        world.api.put(f"other-{number}")
    async with world.controller() as router:
        await router.activate("hello")
    newest = world.api.put("hello")
    async with world.controller(sync_patience=200.0) as router:
        await world.api.until_applied(newest)
        # It did not wait until it had to believe the pod, for want of the catalog.
        assert "hello" not in router.routes
        assert (await router.activate("hello")).version == 2
    assert {route.version for route in router.seen} <= {0, 2}


async def test_a_restarted_controller_adopts_without_the_api_and_corrects_itself_later(
    world: Any,
) -> None:
    world.api.put("hello")
    async with world.controller() as router:
        before = (await router.activate("hello")).endpoints
    await world.api.stop()
    world.api.put("hello")
    async with world.controller(sync_patience=0.4) as router:
        assert router.routes["hello"].endpoints == before
        await world.api.start()
        await world.api.until_applied(len(world.api.history))
        await router.until(lambda: router.routes["hello"].version == 2)


async def test_a_controller_that_knows_a_function_from_its_pods_runs_it_not_without_its_secrets(
    world: Any,
) -> None:
    world.api.put("hello", secrets={"KEY": "value"})
    async with world.controller() as router:
        await router.activate("hello")
    await world.api.stop()
    async with world.controller(sync_patience=0.4) as router:
        assert router.routes["hello"].endpoints, "it serves on"
        (pod,) = world.host.serving("hello")
        pod.crash()
        await router.until(lambda: not router.routes["hello"].endpoints)
        with pytest.raises(GRPCError) as caught:
            await router.activate("hello")
        assert caught.value.status is Status.UNAVAILABLE
        await world.api.start()
        await world.api.until_applied(len(world.api.history))
        assert (await router.activate("hello")).version == 1
        (pod,) = world.host.serving("hello")
        assert pod.function.settings.secrets == {"KEY": "value"}


async def test_a_restarted_controller_resolves_pods_in_between_states(world: Any) -> None:
    world.api.put("hello")
    async with world.controller(pool_size=3):
        pods = world.host.in_phase(GENERIC)
    function = world.api.functions["hello"]
    phases = (pb.PodPhase.ACTIVATING, pb.PodPhase.DRAINING, pb.PodPhase.RECYCLING)
    for pod, phase in zip(pods, phases, strict=True):
        pod.activation_id, pod.function = "left behind", function
        pod.become(phase)
    async with world.controller(pool_size=1, sync_patience=0.3):
        # What was loading a router may have been told of: it does not come to serve.
        await world.host.until(lambda: pods[0].name not in world.host.pods)
        await world.host.until(lambda: world.host.in_phase(GENERIC))
        pods[2].become(GENERIC)
        assert not world.host.serving("hello")


async def test_pods_of_another_controller_are_left_alone(world: Any) -> None:
    world.api.put("hello")
    async with world.controller(pool_size=1, name="one") as router:
        await router.activate("hello")
    async with world.controller(pool_size=1, name="two") as router:
        assert not router.routes
        await router.activate("hello")
        assert len(world.host.serving("hello")) == 2


async def test_a_sidecar_whose_connection_breaks_once_loses_no_activation(world: Any) -> None:
    world.api.put("hello")
    async with world.controller() as router:
        before = (await router.activate("hello")).endpoints
        pod = world.host.serving("hello")[0]
        await world.host._kill(pod)
        await world.host._start(pod)
        await asyncio.sleep(0.5)
        assert (await router.activate("hello")).endpoints == before
        pod.crash()
        await router.until(lambda: not router.routes["hello"].endpoints)


async def test_a_sidecar_that_stays_away_loses_its_pod(world: Any) -> None:
    world.api.put("hello")
    async with world.controller() as router:
        await router.activate("hello")
        await world.host._kill(world.host.serving("hello")[0])
        await router.until(lambda: not router.routes["hello"].endpoints)


async def test_an_idle_pool_that_grew_shrinks_by_deleting_pods_that_come_back(world: Any) -> None:
    world.api.put("hello", max_scale=4)
    async with world.controller(pool_size=1, pool_max=1) as router:
        for _ in range(4):
            await router.activate("hello", saturated=True)
        await world.host.until(lambda: len(world.host.in_phase(GENERIC)) == 1)
        await world.api.until_applied(world.api.delete("hello"))
        await world.host.until(lambda: len(world.host.pods) == 1)
