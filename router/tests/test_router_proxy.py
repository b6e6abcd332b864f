"""HTTP through the router, over real sockets, against pods that say exactly what the test says."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

World = Any
PodConnection = Any


async def test_a_request_reaches_the_pod_and_its_answer_the_client(world: World) -> None:
    async def handler(pod: PodConnection) -> None:
        assert await pod.body() == b"hello pod"
        pod.send(
            b"HTTP/1.1 201 Made It\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nConnection: keep-alive\r\n"
            b"Keep-Alive: timeout=5\r\nx-sanfran-note: secret\r\nContent-Length: 5\r\n\r\nhello"
        )

    pod = await world.serving(handler)
    client = await world.client()
    client.post(b"hello pod", "X-A: b", "X-Sanfran-Activation: forged", target="/fn/hello/x?y=1")
    answer = await client.answer()
    assert answer.head == (
        b"HTTP/1.1 201 Made It\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Length: 5\r\n\r\n"
    )
    assert answer.body == b"hello"
    head = pod.heads[0]
    assert head.startswith(b"POST /fn/hello/x?y=1 HTTP/1.1\r\nHost: test\r\nX-A: b\r\n")
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in head
    assert head.lower().count(b"x-sanfran-activation") == 1
    assert b"x-sanfran-activation: act-1\r\n" in head


async def test_connections_are_kept_on_both_sides(world: World) -> None:
    pod = await world.serving()
    client = await world.client()
    for _ in range(5):
        client.get()
        assert (await client.answer()).body == b"ok"
    assert len(pod.connections) == 1


async def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    async def handler(pod: PodConnection) -> None:
        await pod.body()
        target = pod.head.split(b" ")[1]
        pod.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))

    await world.serving(handler)
    client = await world.client()
    for number in range(50):
        client.get(f"/fn/hello/{number}")
        client.post(b"x" * number, target=f"/fn/hello/p{number}")
        client.get(f"/nowhere/{number}")
    for number in range(50):
        assert (await client.answer()).body == b"/fn/hello/%d" % number
        assert (await client.answer()).body == b"/fn/hello/p%d" % number
        assert (await client.answer()).status == 404


async def test_answers_without_a_body_end_with_their_head(world: World) -> None:
    async def handler(pod: PodConnection) -> None:
        kind = pod.head.split(b" ")[1].rpartition(b"/")[2]
        if kind == b"204":
            pod.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif kind == b"304":
            pod.send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n")
        elif pod.head.startswith(b"HEAD"):
            pod.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
        else:
            pod.send(world.ok)

    pod = await world.serving(handler)
    client = await world.client()
    client.get("/fn/hello/204")
    assert (await client.answer()).status == 204
    client.get("/fn/hello/304")
    assert (await client.answer()).status == 304
    client.get(method="HEAD")
    assert (await client.answer(to_head=True)).header("content-length") == "99"
    client.get()
    assert (await client.answer()).body == b"ok"
    assert len(pod.connections) == 1


async def test_http_1_0_clients_may_keep_their_connection(world: World) -> None:
    await world.serving()
    client = await world.client()
    for _ in range(2):
        client.send(b"GET /fn/hello HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")
        answer = await client.answer()
        assert answer.header("connection") == "keep-alive"
    client.send(b"GET /fn/hello HTTP/1.0\r\nHost: x\r\n\r\n")
    assert (await client.answer()).header("connection") == "close"
    assert await client.closed() == b""


async def test_events_arrive_one_by_one(world: World) -> None:
    go = asyncio.Event()

    async def handler(pod: PodConnection) -> None:
        pod.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        pod.send(b"Transfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            event = b"data: %d\n\n" % number
            pod.send(b"%x\r\n%b\r\n" % (len(event), event))
            await go.wait()
            go.clear()
        pod.send(b"0\r\n\r\n")

    await world.serving(handler)
    client = await world.client()
    client.get()
    await client.head()
    for number in range(3):
        assert await client.reader.readuntil(b"\n\n\r\n") == b"9\r\ndata: %d\n\n\r\n" % number
        go.set()
    assert await client.reader.readexactly(5) == b"0\r\n\r\n"


async def test_an_upgrade_becomes_a_tunnel(world: World) -> None:
    async def handler(pod: PodConnection) -> None:
        assert pod.header("connection") == "Upgrade"
        pod.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhi"
        )
        while data := await pod.reader.read(1000):
            pod.send(data.upper())
            if data == b"bye":
                pod.writer.close()
                return

    await world.serving(handler)
    client = await world.client()
    client.get("/fn/hello", "Connection: Upgrade", "Upgrade: echo")
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Connection: Upgrade\r\nUpgrade: echo\r\n" in head
    assert await client.reader.readexactly(2) == b"hi"
    client.send(b"\0\xffa")
    assert await client.reader.readexactly(3) == b"\0\xffA"
    client.send(b"bye")
    assert await client.closed() == b"BYE"


async def test_a_refused_upgrade_is_an_answer_like_any_other(world: World) -> None:
    await world.serving()
    client = await world.client()
    for _ in range(2):
        client.get("/fn/hello", "Connection: Upgrade", "Upgrade: echo")
        assert (await client.answer()).body == b"ok"


async def test_a_client_that_leaves_ends_the_pods_connection_at_once(world: World) -> None:
    arrived = asyncio.Event()

    async def handler(pod: PodConnection) -> None:
        arrived.set()
        await pod.reader.read()

    pod = await world.serving(handler)
    client = await world.client()
    client.get()
    await arrived.wait()
    began = asyncio.get_running_loop().time()
    client.close()
    await pod.left.wait()
    assert asyncio.get_running_loop().time() - began < 0.25
    await world.seen(lambda: world.plane.table.functions["hello"].in_flight == 0)


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
)
async def test_what_breaks_after_the_first_byte_is_broken_for_the_client(
    world: World, start: bytes
) -> None:
    async def handler(pod: PodConnection) -> None:
        pod.send(start)
        await pod.writer.drain()
        await asyncio.sleep(0.02)
        pod.reset()

    await world.serving(handler)
    client = await world.client()
    client.get()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await client.answer()


async def test_a_body_that_should_end_with_its_connection_is_broken_by_a_reset(
    world: World,
) -> None:
    async def handler(pod: PodConnection) -> None:
        pod.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await asyncio.Event().wait()

    world_pod = await world.serving(handler)
    client = await world.client()
    client.get()
    await client.head()
    assert await client.reader.readexactly(4) == b"half"
    world.controller.publish(world_pod, timeout_ms=1)
    for each in world.plane.clients:
        each.abort()
    with pytest.raises(ConnectionResetError):
        await client.closed()


async def test_an_early_answer_to_an_unread_body_reaches_the_client(world: World) -> None:
    async def handler(pod: PodConnection) -> None:
        pod.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno")
        await pod.reader.read()

    await world.serving(handler)
    client = await world.client()
    client.get("/fn/hello", "Content-Length: 10000000", method="POST")
    client.send(b"x" * 300000)
    answer = await client.answer()
    assert (answer.status, answer.body, answer.header("connection")) == (413, b"no", "close")
    client.send(b"x" * 100000)
    assert await client.closed() == b""


async def test_what_is_no_function_is_answered_without_a_controller(world: World) -> None:
    await world.serving()
    client = await world.client()
    for target in ("/fn/", "/fn", "/x", "/fn/%2e%2e/x", "*", "/fn/UP", "//fn/hello"):
        client.get(target, "X-Request-Id: mine-1")
        answer = await client.answer()
        assert (answer.status, answer.code) == (404, "not_found")
        assert json.loads(answer.body)["error"]["request_id"] == "mine-1"
    client.get("/")
    assert b"SanFran" in (await client.answer()).body
    client.get("/nope", method="HEAD")
    assert (await client.answer(to_head=True)).status == 404
    client.get("http://any.example/fn/hello")
    assert (await client.answer()).body == b"ok"
    assert world.controller.asked == []


async def test_a_body_that_goes_bad_later_ends_the_pods_request_unfinished(world: World) -> None:
    pod = await world.serving()
    client = await world.client()
    client.get("/fn/hello", "Transfer-Encoding: chunked", method="POST")
    client.send(b"3\r\nabc\r\n")
    await world.seen(lambda: pod.heads)
    client.send(b"zz\r\n")
    assert (await client.answer()).status == 400
    await pod.left.wait()
