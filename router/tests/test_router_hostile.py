"""What a stranger's code or a stranger's client does costs nobody but its own requests."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest
from sanfran_router import client as client_module
from sanfran_router.metrics import Scrape, rendered
from sanfran_router.request import HeadParser
from sanfran_router.response import parse_response
from sanfran_router.tally import Gauges, Totals, told

World = Any
PodConnection = Any


@pytest.mark.parametrize("status", [b"600 Mine", b"999 Mine"])
@pytest.mark.parametrize("length", [b"Content-Length: 2", b"Content-Length:2"])
async def test_a_status_beyond_the_classes_is_passed_on_and_counted_as_5xx(
    world: World, status: bytes, length: bytes
) -> None:
    async def handler(pod: PodConnection) -> None:
        pod.send(b"HTTP/1.1 " + status + b"\r\n" + length + b"\r\n\r\nok")

    await world.serving(handler)
    client = await world.client()
    for _ in range(2):
        client.get()
        answer = await client.answer()
        assert answer.head.startswith(b"HTTP/1.1 " + status)
        assert answer.body == b"ok"
    totals = Totals()
    async for rows in told(world.plane):
        totals.add(rows, Gauges())
    metrics = rendered(Scrape(totals, Gauges(), 1))
    assert b'{function="hello",status="5xx"} 2\n' in metrics


def seconds(work: Any) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def test_a_long_list_of_connection_options_does_not_hold_the_router_up() -> None:
    options = b",".join(b"o%x" % number for number in range(12_000))
    answer = (
        b"HTTP/1.1 200 OK\r\nConnection: " + options + b"\r\nO1: x\r\nContent-Length: 0\r\n\r\n"
    )
    assert seconds(lambda: parse_response(answer, to_head=False)) < 0.1
    assert b"O1" not in parse_response(answer, to_head=False).head

    parser = HeadParser(
        b"192.0.2.7",
        b"127.0.0.1:8080",
        trust_forwarded=False,
        max_head=65536,
        max_headers=5000,
        max_body=0,
    )
    lines = b"".join(b"O%x: x\r\n" % number for number in range(3500))
    head = (
        b"GET /fn/a HTTP/1.1\r\nHost: a\r\nConnection: "
        + options[:30_000]
        + b"\r\n"
        + lines
        + b"\r\n"
    )
    assert len(head) < 65536
    assert seconds(lambda: parser.parse(head)) < 0.1
    assert b"\r\nO1: x" not in parser.parse(head).head


async def test_a_pause_that_one_pod_caused_ends_with_it(world: World) -> None:
    async def stale(pod: PodConnection) -> None:
        await pod.reader.readexactly(10)
        (client,) = world.plane.clients
        client._exchange.upstream.pause_writing()  # the pod's socket is full
        pod.reset()
        raise ConnectionResetError

    first, second = await world.pod(stale), await world.pod(activation="act-2")
    world.controller.route(first, second)
    await world.start_controller()
    await world.start_router(function_timeout=3)
    client = await world.client()
    client.get("/fn/hello", "Transfer-Encoding: chunked", method="PUT")
    client.send(b"a\r\n0123456789\r\n")
    await world.seen(lambda: second.heads)
    client.send(b"0\r\n\r\n")
    assert (await client.answer()).body == b"ok"


async def test_a_handler_that_plays_the_fence_only_loses_its_own_requests(world: World) -> None:
    ran = []

    async def spoof(pod: PodConnection) -> None:
        ran.append(pod.head)
        pod.send(b"HTTP/1.1 421 M\r\nx-sanfran-retry: fenced\r\nContent-Length: 0\r\n\r\n")

    async def activate(name: str) -> Any:
        return world.controller.routes[name]  # nothing new: the pod is well

    spoofing, good = await world.pod(spoof), await world.pod(activation="act-2")
    world.controller.route(spoofing)
    world.controller.route(good, name="good")
    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router(queue_timeout=0.5)
    client, other = await world.client(), await world.client()
    client.get(method="POST")
    other.get("/fn/good")
    assert (await other.answer()).body == b"ok"
    answer = await client.answer()
    assert (answer.status, answer.header("retry-after")) == (503, "1")
    assert len(ran) == 1
    assert 1 <= len(world.controller.asked) < 10


async def test_a_tunnel_in_which_only_the_pod_speaks_is_not_idle(world: World) -> None:
    async def handler(pod: PodConnection) -> None:
        pod.send(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        for _ in range(10):
            await asyncio.sleep(0.1)
            pod.send(b".")
        await pod.reader.read()

    pod = await world.serving(handler, tunnel_idle_timeout=0.5)
    client = await world.client()
    client.get("/fn/hello", "Connection: Upgrade", "Upgrade: echo")
    await client.head()
    assert await client.reader.readexactly(10) == b"." * 10
    assert await client.closed() == b"", "idle now"
    await pod.left.wait()


async def test_an_idle_tunnel_to_a_client_that_does_not_read_ends(world: World) -> None:
    async def handler(pod: PodConnection) -> None:
        pod.send(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        pod.send(b"x" * 20_000_000)
        await pod.writer.drain()

    pod = await world.serving(handler, tunnel_idle_timeout=0.5)
    client = await world.client()
    client.reader._transport.pause_reading()
    client.get("/fn/hello", "Connection: Upgrade", "Upgrade: echo")
    await world.seen(lambda: pod.heads)
    await world.seen(lambda: not world.plane.clients)
    await world.seen(lambda: world.plane.table.functions["hello"].in_flight == 0)


async def test_an_early_answer_reaches_a_slow_reader_whole(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "LINGER", 0.1)
    size = 60_000

    async def handler(pod: PodConnection) -> None:
        (client,) = world.plane.clients
        end = client.transport.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        pod.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: %d\r\n\r\n" % size + b"n" * size)
        await pod.reader.read()

    await world.serving(handler)
    host, port = world.listener.address.split(":")
    loop = asyncio.get_running_loop()
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await loop.sock_connect(raw, (host, int(port)))
        await loop.sock_sendall(
            raw, b"POST /fn/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\nx"
        )
        await asyncio.sleep(0.5)
        got = 0
        while data := await loop.sock_recv(raw, 65536):
            got += len(data)
    assert got > size


async def test_a_death_seen_by_many_requests_is_one_setback(world: World) -> None:
    hold = asyncio.Event()

    async def dies(pod: PodConnection) -> None:
        if len(old.heads) < 20:
            await hold.wait()
        hold.set()
        await old.stop()

    old, new = await world.pod(dies), await world.pod(activation="act-2")
    world.controller.route(old)

    async def activate(name: str) -> Any:
        return world.controller.route(new)

    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router()
    clients = [await world.client() for _ in range(20)]
    for client in clients:
        client.get()
    began = asyncio.get_running_loop().time()
    for client in clients:
        assert (await client.answer()).body == b"ok"
    assert asyncio.get_running_loop().time() - began < 0.7


async def test_a_request_that_kills_its_process_kills_two_at_most(world: World) -> None:
    ran = []

    async def handler(pod: PodConnection) -> None:
        if b"/poison" not in pod.head:
            pod.send(world.ok)
            return
        ran.append(pod.header("x-sanfran-activation"))
        pod.reset()
        raise ConnectionResetError

    pods = [await world.pod(handler, activation=f"act-{number}") for number in range(4)]
    world.controller.route(*pods)
    await world.start_controller()
    await world.start_router()
    client = await world.client()
    client.get()
    assert (await client.answer()).body == b"ok"
    client.get("/fn/hello/poison")
    assert (await client.answer()).status == 502
    assert len(ran) == 2
