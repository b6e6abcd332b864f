"""Pods that still load: a router is told of them early, for the requests that wait already."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpclib import GRPCError, Status
from sanfran_proto.sanfran import v1 as pb
from sanfran_router.upstream import BEGUN

World = Any
PodConnection = Any

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FENCED = b"HTTP/1.1 421 Misdirected Request\r\nx-sanfran-retry: fenced\r\nContent-Length: 0\r\n\r\n"


class Loading:
    """A pod and its controller, which tells of it early, and again once it has loaded."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.pod: Any = None
        self.loaded = asyncio.Event()
        self.held: asyncio.Queue[PodConnection] = asyncio.Queue()
        self.broken = False

    async def start(self, **settings: object) -> Loading:
        self.pod = await self.world.pod(self.serve)
        self.settings = settings
        self.world.controller.on_activate = self.activate
        await self.world.start_controller()
        await self.world.start_router()
        return self

    async def serve(self, connection: PodConnection) -> None:
        await connection.body()
        if connection.header("x-sanfran-early"):
            self.held.put_nowait(connection)
            return
        connection.send(OK)

    async def activate(self, name: str) -> pb.Route:
        if self.world.controller.asked[-1].early:
            route: pb.Route = self.world.controller.route(self.pod, **self.settings)
            del self.world.controller.routes[name]
            route.early, route.sequence = True, 0
            return route
        await self.loaded.wait()
        if self.broken:
            raise GRPCError(Status.FAILED_PRECONDITION, "does not load")
        settled: pb.Route = self.world.controller.route(self.pod, **self.settings)
        return settled

    @property
    def asked(self) -> list[bool]:
        """Whether each question was an early one."""
        return [one.early for one in self.world.controller.asked]

    @property
    def function(self) -> Any:
        return self.world.plane.table.functions["hello"]


async def test_who_waits_is_sent_to_the_pod_while_it_loads_and_sees_nothing_of_it(
    world: World,
) -> None:
    it = await Loading(world).start()
    clients = [await world.client() for _ in range(3)]
    clients[0].get()
    clients[1].get(method="HEAD")
    clients[2].post(b"a body")
    for _ in clients:
        connection = await it.held.get()
        connection.send(BEGUN + OK if b"HEAD" not in connection.head else BEGUN + OK[:-2])
    for number, client in enumerate(clients):
        answer = await client.answer(to_head=number == 1)
        assert (answer.status, answer.header("x-sanfran-begun")) == (200, None)
    assert it.asked[0] is True
    traffic = it.function.traffic
    assert sum(traffic.cold_buckets) == 1  # counted from the question to the first begin
    it.loaded.set()


@pytest.mark.parametrize("size", [1, 20, len(BEGUN), len(BEGUN) + 10])
async def test_the_word_that_it_begins_may_come_in_pieces(world: World, size: int) -> None:
    it = await Loading(world).start()
    client = await world.client()
    client.get()
    connection = await it.held.get()
    said = BEGUN + OK
    for start in range(0, len(said), size):
        connection.send(said[start : start + size])
        await asyncio.sleep(0.002)
    assert (await client.answer()).body == b"ok"


async def test_its_connection_serves_on_once_a_route_names_the_pod(world: World) -> None:
    it = await Loading(world).start()
    client = await world.client()
    client.get()
    (await it.held.get()).send(BEGUN + OK)
    assert (await client.answer()).body == b"ok"
    world.controller.publish(it.pod)
    await world.seen(lambda: it.function.endpoints)
    client.get()
    assert (await client.answer()).body == b"ok"
    assert len(it.pod.connections) == 1
    assert b"early" not in it.pod.heads[-1].lower()
    assert it.asked == [True]


async def test_a_pod_that_has_begun_serves_on_though_its_controller_dies_before_it_says_so(
    world: World,
) -> None:
    it = await Loading(world).start()
    client = await world.client()
    client.get()
    (await it.held.get()).send(BEGUN + OK)
    assert (await client.answer()).body == b"ok"
    await world.stop_controller()
    for _ in range(2):
        client.get()
        assert (await client.answer()).body == b"ok"
    assert it.asked == [True]


async def test_a_pod_that_begins_after_a_newer_route_has_come_is_not_used_again(
    world: World,
) -> None:
    it = await Loading(world).start()
    newer = await world.pod(activation="act-2")
    client = await world.client()
    client.get()
    connection = await it.held.get()
    world.controller.publish(newer, version=2)
    await world.seen(lambda: it.function.endpoints)
    connection.send(BEGUN + OK)
    assert (await client.answer()).body == b"ok"
    client.get()
    assert (await client.answer()).body == b"ok"
    assert (len(it.pod.heads), len(newer.heads)) == (1, 1)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_process_that_dies_before_it_begins_costs_no_request(
    world: World, method: str
) -> None:
    it = await Loading(world).start()
    client = await world.client()
    client.get("/fn/hello", "Content-Length: 0", method=method)
    (await it.held.get()).reset()
    await world.seen(lambda: len(it.asked) == 2)
    it.loaded.set()
    assert (await client.answer()).body == b"ok"
    assert it.asked == [True, False]


async def test_a_post_that_has_begun_is_not_sent_twice(world: World) -> None:
    it = await Loading(world).start()
    client = await world.client()
    client.post(b"once")
    connection = await it.held.get()
    connection.send(BEGUN)
    await asyncio.sleep(0.05)
    connection.reset()
    answer = await client.answer()
    assert (answer.status, answer.code) == (502, "pod_failed")


async def test_a_get_that_has_begun_goes_to_the_next_pod_like_any(world: World) -> None:
    it = await Loading(world).start()
    client = await world.client()
    client.get()
    connection = await it.held.get()
    connection.send(BEGUN)
    await asyncio.sleep(0.05)
    connection.reset()
    it.loaded.set()
    assert (await client.answer()).body == b"ok"
    assert it.asked == [True, False]


async def test_code_that_does_not_load_is_told_as_ever(world: World) -> None:
    it = await Loading(world).start()
    client = await world.client()
    client.post(b"body")
    connection = await it.held.get()
    it.broken = True
    it.loaded.set()
    connection.send(FENCED)
    answer = await client.answer()
    assert (answer.status, answer.code) == (500, "load_failed")
    assert it.asked == [True, False]


async def test_a_request_that_comes_later_goes_there_only_when_the_controller_says_so_again(
    world: World,
) -> None:
    it = await Loading(world).start()
    first, second = await world.client(), await world.client()
    first.get()
    connection = await it.held.get()
    world.controller.publish()  # the function is known, and runs nowhere
    await world.seen(lambda: it.function.known)
    second.get()
    held = await it.held.get()
    assert it.asked == [True, True]  # the same pod, of which its controller was asked anew
    held.send(BEGUN + OK)
    connection.send(BEGUN + OK)
    assert (await first.answer()).body == b"ok"
    assert (await second.answer()).body == b"ok"


async def test_no_more_are_sent_early_than_the_function_runs_at_once(world: World) -> None:
    it = await Loading(world).start(concurrency=2)
    clients = [await world.client() for _ in range(3)]
    for client in clients:
        client.get()
    held = [await it.held.get(), await it.held.get()]
    await world.seen(lambda: it.asked == [True, False])
    for connection in held:
        connection.send(BEGUN + OK)
    it.loaded.set()
    for client in clients:
        assert (await client.answer()).body == b"ok"


async def test_no_more_are_sent_early_than_can_wait_in_a_pod(world: World) -> None:
    it = await Loading(world).start(concurrency=1000)
    clients = [await world.client() for _ in range(103)]
    for client in clients:
        client.get()
    held = [await it.held.get() for _ in range(100)]
    await world.seen(lambda: it.asked[-1] is False)
    assert it.held.empty()
    for connection in held:
        connection.send(BEGUN + OK)
    it.loaded.set()
    for client in clients:
        assert (await client.answer()).body == b"ok"


@pytest.mark.parametrize("routed", [True, False])
async def test_a_pod_that_could_not_hold_one_more_request_serves_it_once_it_has_loaded(
    world: World, routed: bool
) -> None:
    it = await Loading(world).start()
    first, second = await world.client(), await world.client()
    first.get()
    second.post(b"body")
    refused, held = await it.held.get(), await it.held.get()
    if routed:  # which may be read before the refusal
        world.controller.publish(it.pod)
        await world.seen(lambda: it.function.endpoints)

    async def as_told(name: str) -> pb.Route:
        """As controllers do: a route stays what it is while nothing changes."""
        if not routed:
            await it.loaded.wait()
        route: pb.Route = world.controller.routes[name]
        return route

    world.controller.on_activate = as_told
    refused.send(FENCED)
    if not routed:
        await world.seen(lambda: it.asked == [True, False])
    held.send(BEGUN + OK)
    for client in (first, second):
        assert (await client.answer()).body == b"ok"
    assert len(it.function.endpoints) == 1
    if not routed:
        world.controller.route(it.pod)
        it.loaded.set()


async def test_a_body_that_is_not_all_there_waits_for_the_pod_to_have_loaded(world: World) -> None:
    it = await Loading(world).start()
    client = await world.client()
    client.get("/fn/hello", "Transfer-Encoding: chunked", method="POST")
    await world.seen(lambda: it.asked)
    assert it.asked == [False]
    it.loaded.set()
    client.send(b"3\r\nabc\r\n0\r\n\r\n")
    assert (await client.answer()).body == b"ok"


async def test_a_client_that_leaves_is_no_more_in_the_pod(world: World) -> None:
    it = await Loading(world).start()
    client = await world.client()
    client.get()
    await it.held.get()
    client.abort()
    await it.pod.left.wait()
    await world.seen(lambda: not it.function.in_flight)


async def test_a_function_whose_time_is_over_while_its_pod_loads_had_no_pod(world: World) -> None:
    it = await Loading(world).start(timeout_ms=300)
    client = await world.client()
    client.get()
    await it.held.get()
    answer = await client.answer()
    assert (answer.status, answer.code) == (503, "no_capacity")


async def test_a_deletion_overtakes_an_early_answer(world: World) -> None:
    it = await Loading(world).start()
    gate = asyncio.Event()
    early = it.activate

    async def slowly(name: str) -> pb.Route:
        await gate.wait()
        return await early(name)

    world.controller.on_activate = slowly
    client = await world.client()
    client.get()
    await world.seen(lambda: it.asked)
    world.controller.publish(deleted=True)
    answer = await client.answer()
    assert (answer.status, answer.code) == (404, "not_found")
    gate.set()
    client.get()
    assert (await client.answer()).status == 404
    assert not it.pod.heads


@pytest.mark.parametrize("change", [{"version": 2}, {"deleted": True}])
async def test_of_a_version_that_is_over_only_what_waits_in_a_pod_runs_there(
    world: World, change: dict[str, object]
) -> None:
    it = await Loading(world).start()
    first, second = await world.client(), await world.client()
    first.get()
    connection = await it.held.get()
    world.controller.publish(**change)
    await world.seen(lambda: it.function.version == 2 or it.function.deleted)
    connection.send(BEGUN + OK)
    assert (await first.answer()).body == b"ok"
    assert not it.function.endpoints
    gate = asyncio.Event()

    async def later(name: str) -> pb.Route:
        await gate.wait()
        raise GRPCError(Status.NOT_FOUND, name)

    world.controller.on_activate = later
    second.get()
    if "version" in change:
        await world.seen(lambda: len(it.asked) == 2)
    else:
        assert (await second.answer()).status == 404
    assert len(it.pod.heads) == 1
    gate.set()


async def test_a_newer_route_takes_the_early_pod_s_place(world: World) -> None:
    it = await Loading(world).start()
    newer = await world.pod(activation="act-2")
    first, second = await world.client(), await world.client()
    first.get()
    connection = await it.held.get()
    world.controller.publish(newer, version=2)
    await world.seen(lambda: it.function.endpoints)
    second.get()
    assert (await second.answer()).body == b"ok"
    assert newer.heads
    connection.send(
        b"HTTP/1.1 421 Misdirected Request\r\nx-sanfran-retry: draining\r\nContent-Length: 0\r\n\r\n"
    )
    assert (await first.answer()).body == b"ok"
    assert len(newer.heads) == 2
