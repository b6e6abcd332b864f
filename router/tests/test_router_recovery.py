"""Pods that are cold, gone, recycled or full, and controllers that are away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpclib import GRPCError, Status
from sanfran_router import control

World = Any
PodConnection = Any


async def refused_address(world: World) -> Any:
    """A pod that is not there."""
    pod = await world.pod()
    await pod.stop()
    return pod


async def test_a_cold_function_is_activated_once_for_all_who_call_it(world: World) -> None:
    pod = await world.pod()
    asked, go = asyncio.Event(), asyncio.Event()

    async def activate(name: str) -> Any:
        asked.set()
        await go.wait()
        return world.controller.route(pod)

    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router()
    clients = [await world.client() for _ in range(4)]
    clients[0].post(b"a body waits too")
    await asked.wait()
    for client in clients[1:]:
        client.get()
    await world.seen(lambda: world.plane.activator.waiting == 4)
    go.set()
    for client in clients:
        assert (await client.answer()).body == b"ok"
    assert [(one.name, one.saturated) for one in world.controller.asked] == [("hello", False)]
    traffic = world.plane.table.functions["hello"].traffic
    assert (traffic.activations, sum(traffic.cold_buckets)) == (1, 1)


@pytest.mark.parametrize(
    ("status", "answered", "word"),
    [
        (Status.NOT_FOUND, 404, "not_found"),
        (Status.FAILED_PRECONDITION, 500, "load_failed"),
        (Status.RESOURCE_EXHAUSTED, 503, "no_capacity"),
        (Status.UNAVAILABLE, 503, "no_capacity"),
        (Status.INTERNAL, 503, "no_capacity"),
    ],
)
async def test_a_refused_activation_answers_as_the_table_says(
    world: World, status: Status, answered: int, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "ABSENCE_PATIENCE", 0.1)

    async def activate(name: str) -> Any:
        raise GRPCError(status, "no")

    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router()
    client = await world.client()
    for _ in range(2):
        client.post(b"body")
        answer = await client.answer()
        assert (answer.status, answer.code) == (answered, word)
        assert (answer.header("retry-after") is not None) == (answered == 503)
    await world.seen(lambda: not world.plane.table.functions)


async def test_an_activation_that_takes_too_long_is_503(world: World) -> None:
    async def activate(name: str) -> Any:
        await asyncio.sleep(5)

    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router(queue_timeout=0.2)
    client = await world.client()
    client.get()
    assert (await client.answer()).status == 503


async def test_a_full_queue_is_503_at_once(world: World) -> None:
    async def activate(name: str) -> Any:
        await asyncio.sleep(5)

    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router(queue_size=2)
    waiting = [await world.client(), await world.client()]
    for client in waiting:
        client.get()
    await world.seen(lambda: world.plane.activator.waiting == 2)
    client = await world.client()
    client.get()
    answer = await client.answer()
    assert (answer.status, answer.code) == (503, "no_capacity")
    for client in waiting:
        client.abort()
    await world.seen(lambda: world.plane.activator.waiting == 0)


async def test_saturated_pods_queue_requests_and_one_more_is_asked_for(world: World) -> None:
    go = asyncio.Event()

    async def slow(pod: PodConnection) -> None:
        await go.wait()
        pod.send(world.ok)

    first, second = await world.pod(slow), await world.pod(activation="act-2")
    world.controller.route(first, concurrency=1)

    async def activate(name: str) -> Any:
        return world.controller.route(first, second, concurrency=1)

    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router()
    one, two = await world.client(), await world.client()
    one.get()
    await world.seen(lambda: first.heads)
    two.get()
    assert (await two.answer()).body == b"ok"
    assert [one.saturated for one in world.controller.asked] == [True]
    assert len(second.heads) == 1
    go.set()
    assert (await one.answer()).body == b"ok"


async def test_a_client_that_leaves_as_its_turn_comes_passes_the_place_on(world: World) -> None:
    holder = asyncio.Event()

    async def handler(pod: PodConnection) -> None:
        if b"/0 " in pod.head:
            await holder.wait()
        pod.send(world.ok)

    async def activate(name: str) -> Any:
        raise GRPCError(Status.RESOURCE_EXHAUSTED, "max_scale")

    pod = await world.pod(handler)
    world.controller.route(pod, concurrency=1)
    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router()
    clients = []
    for number in range(4):
        clients.append(await world.client())
        clients[number].get(f"/fn/hello/{number}")
        await world.seen(
            lambda n=number: len(pod.heads) == 1 and world.plane.activator.waiting == n
        )
    clients[1].abort()
    holder.set()
    assert (await clients[2].answer()).body == b"ok"
    assert (await clients[3].answer()).body == b"ok"
    function = world.plane.table.functions["hello"]
    await world.seen(lambda: function.in_flight == 0 and not function.waiting)


async def test_a_stale_route_across_a_recycle_is_retried_unseen_by_the_client(world: World) -> None:
    pod = await world.serving()
    client = await world.client()
    client.get()
    assert (await client.answer()).body == b"ok"
    # The pod is recycled and runs another function at the same address; the router is not told.
    await pod.stop()
    stranger = await world.pod_at(pod.address, activation="other-function")
    fresh = await world.pod(activation="act-2")

    async def activate(name: str) -> Any:
        return world.controller.route(fresh)

    world.controller.on_activate = activate
    for body in (b"", b"POST is retried too: the handler did not run"):
        client.post(body)
        assert (await client.answer()).body == b"ok"
    assert len(stranger.heads) == 1
    assert len(fresh.heads) == 2
    assert world.plane.table.functions["hello"].traffic.retries["fenced"] == 1


async def test_a_draining_pod_is_left_for_another_at_once(world: World) -> None:
    async def draining(pod: PodConnection) -> None:
        pod.send(
            b"HTTP/1.1 421 Misdirected Request\r\nX-Sanfran-Retry: draining\r\n"
            b"Content-Length: 0\r\n\r\n"
        )

    old, new = await world.pod(draining), await world.pod(activation="act-2")
    world.controller.route(old, new)
    await world.start_controller()
    await world.start_router()
    client = await world.client()
    for _ in range(3):
        client.get()
        assert (await client.answer()).body == b"ok"
    assert len(old.heads) <= 1


async def test_a_handlers_own_421_is_an_answer(world: World) -> None:
    async def handler(pod: PodConnection) -> None:
        pod.send(b"HTTP/1.1 421 Mine\r\nContent-Length: 0\r\n\r\n")

    await world.serving(handler)
    client = await world.client()
    client.get()
    assert (await client.answer()).status == 421


async def test_a_big_body_survives_a_recycle_without_being_kept(world: World) -> None:
    body = b"0123456789" * 300_000
    got = asyncio.Queue[bytes]()

    async def handler(pod: PodConnection) -> None:
        got.put_nowait(await pod.body())
        pod.send(world.ok)

    stale = await world.pod(activation="recycled")
    fresh = await world.pod(handler, activation="act-2")
    stale.activation = "runs-something-else"
    route = world.controller.route(stale)
    route.endpoints[0].activation_id = "recycled"

    async def activate(name: str) -> Any:
        return world.controller.route(fresh)

    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router()
    client = await world.client()
    client.post(body)
    assert (await client.answer()).body == b"ok"
    assert await got.get() == body
    assert len(stale.heads) == 1
    client.get("/fn/hello", "Transfer-Encoding: chunked", method="POST")
    for start in range(0, len(body), 50_000):
        client.send(b"%x\r\n%b\r\n" % (50_000, body[start : start + 50_000]))
    client.send(b"0\r\n\r\n")
    assert (await client.answer()).body == b"ok"
    assert await got.get() == body


async def test_a_pod_that_takes_a_body_without_saying_so_gets_it_after_a_while(
    world: World,
) -> None:
    async def handler(pod: PodConnection) -> None:
        await pod.reader.readexactly(int(pod.header("content-length")))
        pod.send(world.ok)

    await world.serving(handler)
    client = await world.client()
    client.post(b"x" * 1_000_000)
    assert (await client.answer()).body == b"ok"


async def test_a_body_that_is_gone_is_not_sent_twice(world: World) -> None:
    async def handler(pod: PodConnection) -> None:
        pod.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await pod.reader.readexactly(500_000)
        pod.send(b"HTTP/1.1 421 M\r\nx-sanfran-retry: draining\r\nContent-Length: 0\r\n\r\n")

    await world.serving(handler)
    client = await world.client()
    client.post(b"x" * 600_000)
    answer = await client.answer()
    assert (answer.status, answer.code) == (503, "no_capacity")


async def test_a_refused_connection_is_retried_whatever_the_method(world: World) -> None:
    dead, alive = await refused_address(world), await world.pod(activation="act-2")
    world.controller.route(dead, alive)
    await world.start_controller()
    await world.start_router()
    for _ in range(3):
        client = await world.client()
        client.post(b"body")
        assert (await client.answer()).body == b"ok"
    assert world.plane.table.functions["hello"].traffic.retries.get("connect", 0) <= 1


async def test_a_controller_that_has_not_seen_a_death_yet_is_asked_again(world: World) -> None:
    dead, alive = await refused_address(world), await world.pod(activation="act-2")
    world.controller.route(dead)

    async def activate(name: str) -> Any:
        if len(world.controller.asked) < 4:
            return world.controller.routes["hello"]
        return world.controller.route(alive)

    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router()
    client = await world.client()
    client.post(b"body")
    assert (await client.answer()).body == b"ok"
    assert len(world.controller.asked) == 4


async def test_a_kept_connection_that_the_pod_closed_is_replaced(world: World) -> None:
    async def handler(pod: PodConnection) -> None:
        if len(world_pod.heads) == 2:
            pod.reset()  # crossed with the second request on this connection
            raise ConnectionResetError
        pod.send(world.ok)

    world_pod = await world.serving(handler)
    client = await world.client()
    for _ in range(2):
        client.get()
        assert (await client.answer()).body == b"ok"
    assert world.plane.table.functions["hello"].traffic.retries == {"stale": 1}


async def test_a_process_that_dies_is_retried_once_for_idempotent_methods(world: World) -> None:
    async def dies(pod: PodConnection) -> None:
        pod.reset()
        raise ConnectionResetError

    first, second = await world.pod(dies), await world.pod(dies, activation="act-2")
    third = await world.pod(activation="act-3")
    world.controller.route(first, second, third)
    await world.start_controller()
    await world.start_router()
    client = await world.client()
    client.post(b"x")
    answer = await client.answer()
    assert (answer.status, answer.code) == (502, "pod_failed")
    assert len(first.heads) + len(second.heads) == 1
    client.get(method="DELETE")
    assert (await client.answer()).body == b"ok"


async def test_a_process_that_dies_socket_by_socket_costs_no_get(world: World) -> None:
    """Its kept connections break first; what it still accepts then breaks as well."""
    tasks = set()

    async def dies(pod: PodConnection) -> None:
        if len(dying.heads) > 1:
            if not tasks:
                tasks.add(asyncio.get_running_loop().create_task(close_the_rest()))
            pod.reset()
            raise ConnectionResetError
        pod.send(world.ok)

    async def close_the_rest() -> None:
        await asyncio.sleep(0.01)
        await dying.stop()

    dying = await world.pod(dies)
    world.controller.route(dying)
    await world.start_controller()
    await world.start_router()
    client = await world.client()
    client.get()
    assert (await client.answer()).body == b"ok"
    other = await world.pod(activation="act-2")

    async def activate(name: str) -> Any:
        return world.controller.route(other)

    world.controller.on_activate = activate
    client.get()
    assert (await client.answer()).body == b"ok"
    assert (len(dying.heads), len(other.heads)) == (2, 1)
    await asyncio.gather(*tasks)


async def test_a_second_death_is_502(world: World) -> None:
    async def dies(pod: PodConnection) -> None:
        pod.reset()
        raise ConnectionResetError

    pods = [await world.pod(dies, activation=f"act-{n}") for n in range(4)]
    world.controller.route(*pods)
    await world.start_controller()
    await world.start_router()
    client = await world.client()
    client.get()
    assert (await client.answer()).status == 502
    assert sum(len(pod.heads) for pod in pods) == 2
