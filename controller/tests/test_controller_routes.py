"""Routes and load reports."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from sanfran_controller.load import EXPIRE, Loads
from sanfran_controller.pods import Activation, Pod
from sanfran_controller.routes import Routes, WatcherTooSlow
from sanfran_proto.sanfran import v1 as pb


def version(name: str, number: int = 1) -> pb.FunctionVersion:
    return pb.FunctionVersion(name=name, version=number, settings=pb.FunctionSettings())


def pod_of(function: pb.FunctionVersion) -> Pod:
    pod = Pod(f"pod-of-{function.name}", None)
    pod.activation = Activation("secret", function)
    pod.address = "127.0.0.1:1"
    return pod


def publish(routes: Routes, name: str, number: int = 1) -> pb.Route:
    function = version(name, number)
    return routes.publish(function, [pod_of(function)])


async def test_a_watcher_gets_the_state_then_synced_then_changes() -> None:
    routes = Routes("c-1")
    publish(routes, "a")
    publish(routes, "b")
    routes.publish(version("b"), ())
    async with aclosing(routes.watch()) as events:
        first, second = await anext(events), await anext(events)
        assert first.route is not None
        assert (first.route.name, first.route.controller) == ("a", "c-1")
        assert second.synced == pb.RoutesSynced(controller="c-1")
        routes.publish_deleted("a")
        third = await anext(events)
        assert third.route is not None
        assert third.route.deleted
        assert third.route.sequence > first.route.sequence
    assert len(routes) == 0


async def test_a_slow_watcher_gets_only_the_latest_of_each_function() -> None:
    routes = Routes("c-1")
    async with aclosing(routes.watch()) as events:
        await anext(events)
        for number in range(1, 101):
            publish(routes, "a", number)
        publish(routes, "b")
        got = [await anext(events), await anext(events)]
        assert [(one.route.name, one.route.version) for one in got if one.route] == [
            ("a", 100),
            ("b", 1),
        ]


async def test_a_watcher_that_falls_too_far_behind_starts_over() -> None:
    routes = Routes("c-1", pending_most=3)
    async with aclosing(routes.watch()) as events:
        await anext(events)
        for name in "abcd":
            publish(routes, name)
        with pytest.raises(WatcherTooSlow):
            await anext(events)


async def test_a_watcher_that_leaves_is_forgotten() -> None:
    routes = Routes("c-1")
    waiting = asyncio.ensure_future(_read_all(routes))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert not routes._watchers


async def _read_all(routes: Routes) -> None:
    async for _ in routes.watch():
        pass


def report(router: str, name: str, in_flight: int, queued: int = 0, peak: int = 0) -> pb.LoadReport:
    load = pb.FunctionLoad(name=name, in_flight=in_flight, queued=queued, peak_in_flight=peak)
    return pb.LoadReport(router=router, functions=[load])


def test_load_is_summed_over_routers_and_replaced_by_the_next_report() -> None:
    loads = Loads()
    loads.report(report("r1", "a", 3, 1, peak=9), 0.0)
    loads.report(report("r2", "a", 2), 0.0)
    assert loads.demand("a") == 6
    assert loads.peak("a") == 11
    loads.report(pb.LoadReport(router="r1"), 1.0)
    assert loads.demand("a") == 2


def test_a_router_that_falls_silent_or_leaves_is_forgotten() -> None:
    loads = Loads()
    loads.report(report("r1", "a", 3), 0.0)
    loads.report(report("r2", "a", 2), 1.0)
    assert loads.expire(EXPIRE - 0.1) == []
    assert loads.expire(EXPIRE) == ["r1"]
    assert loads.demand("a") == 2
    loads.report(pb.LoadReport(router="r2", leaving=True), 2.0)
    assert loads.routers == 0
