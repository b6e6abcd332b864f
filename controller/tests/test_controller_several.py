"""Several controllers in one simulated world: shares, adoption, homes."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import pytest
from grpclib import GRPCError, Status
from sanfran_common.rpc.balancer import choose_by_key
from sanfran_controller import adoption, homing
from sanfran_proto.sanfran import v1 as pb

GENERIC = pb.PodPhase.GENERIC


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "RENEW_EVERY", 0.1)
    monkeypatch.setattr(adoption, "ADOPT_AGAIN", 0.1)
    monkeypatch.setattr(homing, "EVERY", 0.1)


def address(world: Any, name: str) -> str:
    return f"unix:{world.folder}/{name}"


def controller(world: Any, name: str, **settings: Any) -> AbstractAsyncContextManager[Any]:
    world.host.ttl = 1.0
    started: AbstractAsyncContextManager[Any] = world.controller(
        name=name, rpc_listen=address(world, name), **settings
    )
    return started


def named(world: Any, home: str) -> str:
    """The name of a function whose home is that one of `one` and `two`."""
    both = [address(world, "one"), address(world, "two")]
    names = (f"f{number}" for number in range(100))
    return next(name for name in names if choose_by_key(name, both) == address(world, home))


def owned(world: Any, name: str, phase: pb.PodPhase = GENERIC) -> int:
    return sum(pod.controller == name for pod in world.host.in_phase(phase))


async def test_two_controllers_share_one_pool_and_the_other_one_fills_it_when_one_leaves(
    world: Any,
) -> None:
    async with controller(world, "two", pool_size=4):
        await world.host.until(lambda: owned(world, "two") == 4)
        async with controller(world, "one", pool_size=4):
            await world.host.until(lambda: owned(world, "one") == 2)
        await world.host.until(lambda: owned(world, "two") >= 4 and not owned(world, "one"))


async def test_a_dead_controllers_functions_stay_warm_with_another(world: Any) -> None:
    world.api.put("hello")
    async with controller(world, "two") as two:
        async with controller(world, "one") as one:
            before = (await one.activate("hello")).endpoints
        await two.until(lambda: "hello" in two.routes)
        assert two.routes["hello"].endpoints == before
        assert len(world.host.activations) == 1
        await world.api.until_applied(world.api.put("hello"))
        await two.until(lambda: two.routes["hello"].version == 2)
        assert len(world.host.serving("hello")) == 1


async def test_a_controller_that_is_back_in_time_keeps_its_pods(world: Any) -> None:
    world.api.put("hello")
    async with controller(world, "two") as two:
        async with controller(world, "one") as one:
            before = (await one.activate("hello")).endpoints
        async with controller(world, "one") as one:
            assert one.routes["hello"].endpoints == before
            await world.host.until(lambda: owned(world, "one") >= 1)
        assert not two.routes
        assert len(world.host.activations) == 1


async def test_no_update_counts_as_applied_while_a_dead_controllers_pods_may_serve_what_was_before(
    world: Any,
) -> None:
    world.api.put("hello")
    async with controller(world, "two"):
        async with controller(world, "one") as one:
            await one.activate("hello")
            await world.api.changes.until(lambda: world.api.live == ["one", "two"])
        world.api.put("hello")
        assert world.api.live == ["one", "two"], "the dead one's word is still waited for"
        old = world.host.serving("hello")
        assert [pod.function.version for pod in old] == [1]
        await world.api.changes.until(lambda: world.api.live == ["two"])
        assert not any(pod.phase is pb.PodPhase.ACTIVE and pod.function.version == 1 for pod in old)


async def test_a_pod_that_another_has_adopted_is_let_go_and_neither_fenced_nor_deleted(
    world: Any,
) -> None:
    world.api.put("hello")
    async with controller(world, "one") as one:
        await one.activate("hello")
        pod = world.host.serving("hello")[0]
        pod.controller, pod.term = "other", pod.term + 1
        other = pb.LiveController(name="other", address="", watches=True)
        world.host.live["other"] = other
        world.host._members_changed()
        await one.until(lambda: not one.routes["hello"].endpoints)
        assert world.host.serving("hello") == [pod]
        assert (await one.activate("hello")).endpoints[0].pod != pod.name
        assert pod.phase is pb.PodPhase.ACTIVE


async def test_a_function_that_two_came_to_serve_ends_up_at_its_home(world: Any) -> None:
    name = named(world, "one")
    world.api.put(name)
    async with controller(world, "one") as one, controller(world, "two") as two:
        await two.activate(name)
        await one.activate(name)
        await world.host.until(lambda: len(world.host.serving(name)) == 1)
        assert world.host.serving(name)[0].controller == "one"
        assert one.routes[name].endpoints
        await two.until(lambda: not two.routes[name].endpoints)


async def test_a_function_that_only_the_other_serves_is_activated_at_home_before_it_leaves_there(
    world: Any,
) -> None:
    name = named(world, "one")
    world.api.put(name)
    served: list[int] = []
    async with controller(world, "one") as one, controller(world, "two") as two:
        route = await two.activate(name)

        def moved() -> bool:
            served.append(len(world.host.serving(name)))
            return bool(served[-1] == 1 and world.host.serving(name)[0].controller == "one")

        await world.host.until(moved)
        assert 0 not in served
        assert one.routes[name].endpoints != route.endpoints


async def test_min_scale_is_kept_once_and_not_by_each(world: Any) -> None:
    world.api.put("kept", min_scale=2)
    async with controller(world, "one"), controller(world, "two"):
        await world.host.until(lambda: len(world.host.serving("kept")) == 2)
        await world.host.until(lambda: len(world.host.in_phase(GENERIC)) >= 2)
        assert len({pod.controller for pod in world.host.serving("kept")}) == 1
        assert len(world.host.activations) == 2


async def test_who_asks_a_controller_that_can_get_no_pod_is_told_so_at_once(world: Any) -> None:
    name = named(world, "one")
    world.api.put(name)
    async with controller(world, "two", pool_size=2, max_pods=2) as two:
        await world.host.until(lambda: owned(world, "two") == 2)
        async with controller(world, "one", pool_size=0, max_pods=2) as one:
            began = time.monotonic()
            with pytest.raises(GRPCError) as refused:
                await one.activate(name)
            assert refused.value.status is Status.ABORTED
            assert time.monotonic() - began < 1.0
            assert (await two.activate(name)).endpoints
            # As soon as there is room it has one, which is waited for as everywhere.
            world.host.start_delay = 0.3
            for pod in list(world.host.pods.values()):
                pod.crash()
            route = pb.Route()
            while not route.endpoints:
                await asyncio.sleep(0.02)
                with suppress(GRPCError):
                    route = await one.activate(name)
            assert route.endpoints[0].pod.startswith("one-")


async def test_a_controller_alone_has_nobody_to_send_its_callers_to(world: Any) -> None:
    world.api.put("hello")
    world.host.fail_start = lambda number: True
    async with controller(world, "one", pool_size=0, activation_timeout=0.5) as one:
        with pytest.raises(GRPCError) as refused:
            await one.activate("hello")
        assert refused.value.status is Status.RESOURCE_EXHAUSTED
