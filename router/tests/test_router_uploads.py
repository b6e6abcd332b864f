"""Request bodies on their way to a pod: gathered, held, kept, sent again."""

from __future__ import annotations

import asyncio
import socket
import struct
import tracemalloc
from typing import Any

import pytest
from sanfran_router import client as client_module

World = Any
PodConnection = Any


async def test_a_slow_small_body_takes_no_pods_place(world: World) -> None:
    pod = await world.serving()
    world.controller.publish(pod, concurrency=1)
    await world.seen(lambda: world.plane.table.functions["hello"].concurrency == 1)
    slow = await world.client()
    slow.get("/fn/hello", "Content-Length: 4", method="POST")
    slow.send(b"ab")
    await world.seen(lambda: world.plane.table.functions["hello"].traffic.received > 0)
    quick = await world.client()
    quick.get()
    assert (await quick.answer()).status == 200
    assert len(pod.heads) == 1
    slow.send(b"cd")
    assert (await slow.answer()).status == 200
    assert b"Expect" not in pod.heads[1]


async def test_a_small_body_that_does_not_come_is_408_and_no_pod_hears_of_it(world: World) -> None:
    pod = await world.serving(function_timeout=0.2)
    world.controller.publish(pod, timeout_ms=0)
    await world.seen(lambda: not world.plane.table.functions["hello"].timeout)
    client = await world.client()
    client.get("/fn/hello", "Content-Length: 4", method="POST")
    answer = await client.answer()
    assert (answer.status, answer.code) == (408, "body_timeout")
    assert await client.closed() == b""
    assert pod.heads == []


async def test_whoever_expects_100_continue_is_sent_on_before_the_body(world: World) -> None:
    await world.serving()
    client = await world.client()
    client.get("/fn/hello", "Content-Length: 4", "Expect: 100-continue", method="POST")
    assert (await client.head()).startswith(b"HTTP/1.1 100 ")
    client.send(b"abcd")
    assert (await client.answer()).status == 200


async def test_waiting_bodies_have_a_bound_together(world: World) -> None:
    go = asyncio.Event()
    pod = await world.pod()

    async def activate(name: str) -> Any:
        await go.wait()
        return world.controller.route(pod)

    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router(queue_bytes=25_000)
    waiting = [await world.client() for _ in range(2)]
    for client in waiting:
        client.post(b"x" * 10_000)
    await world.seen(lambda: world.plane.activator.held == 20_000)
    refused = await world.client()
    refused.post(b"x" * 10_000)
    answer = await refused.answer()
    assert (answer.status, answer.header("retry-after")) == (503, "1")
    small = await world.client()
    small.post(b"x" * 4_000)
    await world.seen(lambda: world.plane.activator.held == 24_000)
    go.set()
    for client in (*waiting, small):
        assert (await client.answer()).status == 200
    assert world.plane.activator.held == 0


async def test_a_large_body_is_not_read_while_it_waits_for_a_pod(world: World) -> None:
    asked, go = asyncio.Event(), asyncio.Event()
    pod = await world.pod()

    async def activate(name: str) -> Any:
        asked.set()
        await go.wait()
        return world.controller.route(pod)

    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router()
    body = b"0123456789abcdef" * 500_000
    client = await world.client()
    client.post(body)
    await asked.wait()
    await world.seen(lambda: client.writer.transport.get_write_buffer_size())
    assert world.plane.activator.held < 1 << 20
    go.set()
    assert (await client.answer()).status == 200


async def test_a_body_in_tiny_pieces_takes_no_more_memory_than_its_bytes(world: World) -> None:
    await world.serving()
    client = await world.client()
    client.get("/fn/hello", "Content-Length: 60000", method="POST")
    await world.seen(lambda: world.plane.table.functions["hello"].traffic.received > 0)
    (connection,) = world.plane.clients
    tracemalloc.start()
    try:
        for number in range(20_000):
            connection.data_received(b"%02d" % (number % 100))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000


@pytest.mark.parametrize("method", [b"POST", b"GET"])
async def test_a_kept_connection_that_the_pod_had_closed_costs_no_request(
    world: World, method: bytes
) -> None:
    """The pod closes when the router can have no news of it before it sends; the kernel tells that
    the pod got nothing of the request, so that any method may be sent again."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        pod = await world.pod()
        pod.address = f"127.0.0.1:{server.getsockname()[1]}"
        world.controller.route(pod)
        await world.start_controller()
        await world.start_router()
        client = await world.client()
        client.get()
        kept, _ = await loop.sock_accept(server)
        assert await loop.sock_recv(kept, 10_000)
        await loop.sock_sendall(kept, world.ok)
        assert (await client.answer()).status == 200

        (connection,) = world.plane.clients
        kept.close()
        connection.data_received(method + b" /fn/hello HTTP/1.1\r\nHost: a\r\n\r\n")

        async with asyncio.timeout(5):
            fresh, _ = await loop.sock_accept(server)
        with fresh:
            assert (await loop.sock_recv(fresh, 10_000)).startswith(method)
            await loop.sock_sendall(fresh, world.ok)
            assert (await client.answer()).status == 200
    assert world.plane.table.functions["hello"].traffic.retries == {"stale": 1}


async def test_a_post_whose_handler_resets_the_connection_is_not_sent_again(world: World) -> None:
    """Before the pod's kernel has acknowledged anything, as it may do up to 40 ms later."""
    posts = []

    async def resets(pod: PodConnection) -> None:
        raw = pod.writer.get_extra_info("socket")
        if pod.head.startswith(b"POST"):
            posts.append(await pod.body())
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            pod.reset()
            raise ConnectionResetError
        pod.send(world.ok)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)

    await world.serving(resets)
    clients = [await world.client() for _ in range(3)]
    for client in clients:
        client.get()
    for client in clients:
        assert (await client.answer()).status == 200
    clients[0].post(b"once")
    answer = await clients[0].answer()
    assert (answer.status, answer.code) == (502, "pod_failed")
    assert posts == [b"once"]


async def test_a_post_whose_process_dies_after_it_arrived_is_not_sent_again(world: World) -> None:
    async def dies(pod: PodConnection) -> None:
        if pod.header("x-die"):
            pod.reset()
            raise ConnectionResetError
        pod.send(world.ok)

    pod = await world.serving(dies)
    client = await world.client()
    client.get()
    assert (await client.answer()).status == 200
    client.get("/fn/hello", "X-Die: now", method="POST")
    assert (await client.answer()).status == 502
    assert len(pod.heads) == 2


async def test_connections_over_the_limit_read_why_whatever_they_send(world: World) -> None:
    await world.serving(max_connections=1)
    first = await world.client()
    first.get()
    assert (await first.answer()).status == 200
    over = await world.client()
    over.post(b"x" * 1_000_000)
    answer = await over.answer()
    assert (answer.status, answer.code) == (503, "no_capacity")
    assert world.plane.refused == 1
    over.close()
    await world.seen(lambda: not world.plane.refusing)
    first.get()
    assert (await first.answer()).status == 200


async def test_a_flood_over_the_limit_is_not_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "REFUSALS", 3)
    await world.serving(max_connections=1)
    first = await world.client()
    first.get()
    assert (await first.answer()).status == 200
    flood = [await world.client() for _ in range(10)]
    await world.seen(lambda: world.plane.refused == 10)
    assert len(world.plane.refusing) == 3
    assert len(flood) == 10


async def test_bytes_are_counted_both_ways(world: World) -> None:
    await world.serving()
    client = await world.client()
    client.get()
    answer = await client.answer()
    traffic = world.plane.table.functions["hello"].traffic
    assert traffic.received == len(b"GET /fn/hello HTTP/1.1\r\nHost: test\r\n\r\n")
    assert traffic.sent == len(answer.head) + len(answer.body)
    before = traffic.received
    client.post(b"x" * 1000)
    await client.answer()
    head = b"POST /fn/hello HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n"
    assert traffic.received - before == len(head) + 1000


async def test_requests_for_nobody_are_counted_as_such(world: World) -> None:
    await world.start_controller()
    await world.start_router()
    client = await world.client()
    client.get("/fn/nobody")
    assert (await client.answer()).status == 404
    assert (world.plane.unrouted.requests, world.plane.unrouted.by_class[4]) == (1, 1)
    assert world.plane.table.functions == {}
