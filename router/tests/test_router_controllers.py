"""What controllers tell, what they are told, and what happens while they are away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sanfran_router import control

World = Any
PodConnection = Any


async def test_a_new_route_moves_requests_and_a_deletion_is_404_at_once(world: World) -> None:
    old = await world.serving()
    new = await world.pod(activation="act-2")
    client = await world.client()
    client.get()
    await client.answer()
    world.controller.publish(new, version=2)
    function = world.plane.table.functions["hello"]
    await world.seen(lambda: function.version == 2)
    await old.left.wait()
    client.get()
    assert (await client.answer()).body == b"ok"
    assert len(new.heads) == 1
    world.controller.publish(version=2, deleted=True)
    await world.seen(lambda: function.deleted)
    client.get()
    assert (await client.answer()).status == 404
    assert world.controller.asked == []


async def test_a_cold_request_outlasts_the_restart_of_a_controller(world: World) -> None:
    await world.serving()
    await world.stop_controller()
    client = await world.client()
    client.post(b"body", target="/fn/cold")
    cold = world.plane.table.functions
    await world.seen(lambda: "cold" in cold and bool(cold["cold"].waiting))
    pod = await world.pod(activation="act-9")

    async def activate(name: str) -> Any:
        return world.controller.route(pod, name=name)

    world.controller.on_activate = activate
    await world.start_controller()
    assert (await client.answer()).body == b"ok"


async def test_without_controllers_warm_functions_answer_and_cold_ones_get_503(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "ABSENCE_PATIENCE", 0.1)
    pod = await world.serving()
    await world.stop_controller()
    client = await world.client()
    client.get()
    assert (await client.answer()).body == b"ok"
    client.get("/fn/cold")
    answer = await client.answer()
    assert (answer.status, answer.header("retry-after")) == (503, "1")

    other = await world.pod(activation="act-9")

    async def activate(name: str) -> Any:
        return world.controller.route(other, name=name)

    world.controller.id = "controller-restarted"
    world.controller.routes.clear()
    world.controller.route(other)
    world.controller.on_activate = activate
    await world.start_controller()
    function = world.plane.table.functions["hello"]
    await world.seen(lambda: [one.activation_id for one in function.endpoints] == ["act-9"])
    await pod.left.wait()
    client.get("/fn/cold")
    assert (await client.answer()).body == b"ok"


async def test_load_is_reported_for_functions_with_traffic_only(world: World) -> None:
    go = asyncio.Event()

    async def slow(pod: PodConnection) -> None:
        if b"/slow" in pod.head:
            await go.wait()
        pod.send(world.ok)

    pod = await world.serving(slow)
    world.controller.publish(pod, name="unused")
    client, other = await world.client(), await world.client()
    for _ in range(3):
        client.get()
        await client.answer()
    other.get("/fn/hello/slow")
    await world.seen(lambda: len(pod.heads) == 4)
    await world.link.report_once()
    report = await world.controller.reports.get()
    while not report.functions:
        report = await world.controller.reports.get()
    (load,) = report.functions
    assert (load.name, load.in_flight, load.requests, load.peak_in_flight) == ("hello", 1, 4, 1)
    go.set()
    await other.answer()
    await world.link.report_once()
    await world.link.report_once(leaving=True)
    while not report.leaving:
        last, report = report, await world.controller.reports.get()
    assert last.functions[0].requests == 0
    assert report.functions == []


async def test_a_stop_finishes_what_runs_and_cuts_off_the_rest(world: World) -> None:
    go = asyncio.Event()

    async def slow(pod: PodConnection) -> None:
        if b"/never" in pod.head:
            await asyncio.Event().wait()
        await go.wait()
        pod.send(world.ok)

    pod = await world.serving(slow)
    runs, idle, never = [await world.client() for _ in range(3)]
    runs.get()
    never.get("/fn/hello/never")
    await world.seen(lambda: len(pod.heads) == 2 and len(world.plane.clients) == 3)
    stopping = asyncio.create_task(world.listener.stop(0.3))
    assert await idle.closed() == b""
    with pytest.raises(OSError):
        await world.client()
    go.set()
    answer = await runs.answer()
    assert (answer.body, answer.header("connection")) == (b"ok", "close")
    answer = await never.answer()
    assert (answer.status, answer.code) == (503, "stopping")
    assert await stopping == 1


async def test_the_load_of_many_functions_is_told_in_parts(world: World) -> None:
    await world.serving()
    functions = [world.plane.table.function(f"f{number}") for number in range(250)]
    for function in functions:
        function.traffic.requests = 1
        world.plane.table.busy.add(function)
    parts = []
    while sum(len(part.functions) for part in parts) < 250:
        report = await world.controller.reports.get()
        if report.functions:
            parts.append(report)
    assert [(part.part, part.more) for part in parts] == [(0, True), (1, True), (2, False)]
    assert {load.name for part in parts for load in part.functions} == {f.name for f in functions}
