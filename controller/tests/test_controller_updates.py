"""Updates and deletions over real gRPC: what is acknowledged when, and what routers see."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpclib import GRPCError, Status
from sanfran_controller import partings
from sanfran_proto.sanfran import v1 as pb

DRAINING = (pb.PodPhase.DRAINING, pb.PodPhase.RECYCLING)


async def test_a_new_version_of_an_idle_function_is_acknowledged_at_once(world: Any) -> None:
    world.api.put("hello")
    async with world.controller():
        await world.api.until_applied(world.api.put("hello"))
        assert not world.host.activations


async def test_the_new_version_runs_before_the_old_pods_are_fenced(world: Any) -> None:
    world.api.put("hello")
    async with world.controller() as router:
        old = (await router.activate("hello")).endpoints[0]
        states: list[str] = []

        async def on_drain(pod: Any) -> None:
            newest = world.host.serving("hello")
            states.append(f"{len(newest)} active, {pod.function.version} drains")
            assert router.routes["hello"].version == 2

        world.host.on_drain = on_drain
        await world.api.until_applied(world.api.put("hello"))
        assert states == ["2 active, 1 drains"]
        route = router.routes["hello"]
        assert (route.version, len(route.endpoints)) == (2, 1)
        assert route.endpoints[0].activation_id != old.activation_id
        await world.host.until(lambda: not world.host.in_phase(*DRAINING))


async def test_a_fenced_process_refuses_for_a_while_for_routers_without_the_news(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partings, "LINGER", 60.0)
    world.api.put("hello")
    world.api.put("other")
    async with world.controller() as router:
        await router.activate("hello")
        await world.api.until_applied(world.api.put("hello"))  # which does not wait for that
        await router.activate("other")
        (old,) = world.host.in_phase(pb.PodPhase.DRAINING)
        assert old.function.version == 1


async def test_no_route_ever_mixes_versions(world: Any) -> None:
    world.api.put("hello", concurrency=1)
    async with world.controller(pool_size=4) as router:
        for _ in range(3):
            await router.activate("hello", saturated=True)
        await router.report("hello", in_flight=3)
        await asyncio.sleep(1.1)  # the autoscaler has sampled the demand
        await world.api.until_applied(world.api.put("hello"))
        await router.until(lambda: router.routes["hello"].version == 2)
        # As many as demand needs, at once and not one by one.
        first_new = next(route for route in router.seen if route.version == 2)
        assert len(first_new.endpoints) == 3
        versions = {name: version for name, _, version in world.host.activations}
        for route in router.seen:
            assert {versions[one.pod] for one in route.endpoints} <= {route.version}


async def test_an_update_is_not_acknowledged_before_the_fence_is_up(world: Any) -> None:
    world.api.put("hello")
    async with world.controller() as router:
        await router.activate("hello")
        gate, asked = asyncio.Event(), asyncio.Event()

        async def on_drain(pod: Any) -> None:
            asked.set()
            await gate.wait()

        world.host.on_drain = on_drain
        revision = world.api.put("hello")
        await asked.wait()
        other = world.api.put("other")
        await world.api.until_applied(other)  # other functions do not wait for it
        assert revision not in world.api.applied
        gate.set()
        await world.api.until_applied(revision)


async def test_a_new_version_that_does_not_load_still_ends_the_old_one(world: Any) -> None:
    world.api.put("hello")
    world.host.broken = lambda function: "boom" if function.version == 2 else ""
    async with world.controller() as router:
        await router.activate("hello")
        await world.api.until_applied(world.api.put("hello"))
        assert not world.host.serving("hello")
        assert not router.routes["hello"].endpoints
        with pytest.raises(GRPCError) as caught:
            await router.activate("hello")
        assert caught.value.status is Status.FAILED_PRECONDITION


async def test_an_activation_that_an_update_overtakes_serves_the_new_version(world: Any) -> None:
    world.api.put("hello")
    gate = asyncio.Event()

    async def wait(pod: Any) -> None:
        await gate.wait()

    world.host.on_load = wait
    async with world.controller() as router:
        call = asyncio.ensure_future(router.activate("hello"))
        await world.host.until(lambda: world.host.in_phase(pb.PodPhase.ACTIVATING))
        await world.api.until_applied(world.api.put("hello"))
        gate.set()
        route = await call
        assert route.version == 2
        assert [one.version for one in router.seen if one.name == "hello" and one.endpoints] == [2]
        await world.host.until(lambda: len(world.host.serving("hello")) == 1)


async def test_an_activation_that_a_deletion_overtakes_is_not_found(world: Any) -> None:
    world.api.put("hello")
    gate = asyncio.Event()

    async def wait(pod: Any) -> None:
        await gate.wait()

    world.host.on_load = wait
    async with world.controller() as router:
        call = asyncio.ensure_future(router.activate("hello"))
        await world.host.until(lambda: world.host.in_phase(pb.PodPhase.ACTIVATING))
        await world.api.until_applied(world.api.delete("hello"))
        gate.set()
        with pytest.raises(GRPCError) as caught:
            await call
        assert caught.value.status is Status.NOT_FOUND
        await world.host.until(lambda: not world.host.serving("hello"))


async def test_a_claim_of_a_deleted_function_waits_no_longer(world: Any) -> None:
    world.api.put("busy")
    world.api.put("hello")
    async with world.controller(pool_size=1, max_pods=1) as router:
        await router.activate("busy")
        await router.report("busy", in_flight=1)
        call = asyncio.ensure_future(router.activate("hello"))
        await asyncio.sleep(0.05)
        await world.api.until_applied(world.api.delete("hello"))
        with pytest.raises(GRPCError) as caught:
            await call
        assert caught.value.status is Status.NOT_FOUND


async def test_a_deleted_function_is_gone_for_routers_and_comes_back_when_created(
    world: Any,
) -> None:
    world.api.put("hello")
    async with world.controller() as router:
        await router.activate("hello")
        pod = world.host.serving("hello")[0]
        pod.running = 1  # a request that may finish
        revision = world.api.delete("hello")
        await router.until(lambda: router.routes["hello"].deleted)
        await world.api.until_applied(revision)
        assert pod.phase is pb.PodPhase.DRAINING
        with pytest.raises(GRPCError) as caught:
            await router.activate("hello")
        assert caught.value.status is Status.NOT_FOUND
        pod.running = 0
        world.host.changes.tell()
        await world.host.until(lambda: not world.host.in_phase(*DRAINING))
        world.api.put("hello", created_again=True)
        await router.until(lambda: not router.routes["hello"].deleted)
        assert (await router.activate("hello")).version == 1


async def test_deleted_and_created_again_is_not_taken_for_the_same_version(world: Any) -> None:
    world.api.put("hello")
    async with world.controller() as router:
        old = (await router.activate("hello")).endpoints[0]
        await world.api.stop()
        world.api.delete("hello")
        world.api.put("hello", created_again=True)
        await world.api.start()
        await world.api.until_applied(len(world.api.history))
        new = (await router.activate("hello")).endpoints[0]
        assert old.activation_id != new.activation_id
        assert [version for *_, version in world.host.activations] == [1, 1]


async def test_functions_that_are_gone_after_a_complete_resync_are_removed(world: Any) -> None:
    world.api.put("hello")
    world.api.put("other")
    async with world.controller() as router:
        await router.activate("hello")
        await world.api.stop()
        world.api.delete("hello")
        world.api.history = world.api.history[-1:]  # too short to resume: everything anew
        world.api.history[0].revision = 1
        await world.api.start()
        await world.host.until(lambda: not world.host.serving("hello"))
        await router.until(lambda: router.routes["hello"].deleted)


async def test_events_missed_while_the_api_was_away_are_carried_out_and_acknowledged(
    world: Any,
) -> None:
    world.api.put("hello")
    async with world.controller() as router:
        await router.activate("hello")
        await world.api.stop()
        revision = world.api.put("hello")
        await world.api.start()
        await world.api.until_applied(revision)
        assert router.routes["hello"].version == 2


async def test_functions_with_min_scale_are_kept_active(world: Any) -> None:
    world.api.put("kept", min_scale=2)
    async with world.controller() as router:
        await world.host.until(lambda: len(world.host.serving("kept")) == 2)
        world.api.put("later", min_scale=1)
        await world.host.until(lambda: len(world.host.serving("later")) == 1)
        world.host.serving("later")[0].crash()
        await world.host.until(lambda: len(world.host.serving("later")) == 1)
        await world.api.until_applied(world.api.put("kept", min_scale=1))
        await router.until(lambda: router.routes["kept"].version == 2)


async def test_an_idle_function_is_recycled_and_called_again(world: Any) -> None:
    world.api.put("hello", idle_timeout_ms=500)
    async with world.controller() as router:
        first = await router.activate("hello")
        await world.host.until(lambda: not world.host.serving("hello"))
        await router.until(lambda: not router.routes["hello"].endpoints)
        again = await router.activate("hello")
        assert again.endpoints[0].activation_id != first.endpoints[0].activation_id


async def test_logs_of_all_pods_are_merged_in_order(world: Any) -> None:
    world.api.put("hello", max_scale=3)
    async with world.controller(pool_size=3) as router:
        for _ in range(3):
            await router.activate("hello", saturated=True)
        request = pb.StreamLogsRequest(name="hello", tail=2)
        lines = [line async for line in router.stub.stream_logs(request)]
        assert len(lines) == 2
        assert lines[0].time_ms <= lines[1].time_ms


async def test_followed_logs_take_in_pods_that_join(world: Any) -> None:
    world.api.put("hello", max_scale=3)
    async with world.controller(pool_size=3) as router:
        await router.activate("hello")
        lines = router.stub.stream_logs(pb.StreamLogsRequest(name="hello", follow=True))
        first = await anext(lines)
        await router.activate("hello", saturated=True)
        second = await anext(lines)
        assert first.pod != second.pod
        await lines.aclose()
