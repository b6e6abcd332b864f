"""Limits and timeouts answer as the table says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

from grpclib import GRPCError, Status

World = Any
PodConnection = Any


async def test_limits_answer_as_the_table_says(world: World) -> None:
    await world.serving(max_head_bytes=1000, max_headers=10, max_body_bytes=100, max_connections=3)
    for lines, status, word in (
        (["X-A: " + "b" * 1000], 431, "head_too_large"),
        (["X-A: b"] * 10, 431, "head_too_large"),
        (["Content-Length: 101"], 413, "too_large"),
    ):
        client = await world.client()
        client.get("/fn/hello", *lines, method="POST")
        answer = await client.answer()
        assert (answer.status, answer.code) == (status, word)
        client.writer.transport.abort()
    client = await world.client()
    client.get("/fn/hello", "Transfer-Encoding: chunked", method="POST")
    client.send(b"65\r\n" + b"x" * 101 + b"\r\n")
    assert (await client.answer()).status == 413
    client = await world.client()
    client.send(b"GET /fn/hello HTTP/1.1\r\nX: " + b"a" * 2000)
    assert (await client.answer()).status == 431
    await world.seen(lambda: len(world.plane.clients) <= 2)
    while len(world.plane.clients) < 3:
        other = await world.client()
        other.get()
        await other.answer()
    refused = await world.client()
    answer = await refused.answer()
    assert (answer.status, answer.code) == (503, "no_capacity")
    assert await refused.closed() == b""


async def test_a_functions_own_body_limit_holds_before_and_during_the_stream(world: World) -> None:
    pod = await world.serving()
    world.controller.publish(pod, body_limit=100)
    await world.seen(lambda: world.plane.table.functions["hello"].body_limit == 100)
    for lines, body in (
        (["Content-Length: 101"], b""),  # a short one is not gathered first
        (["Content-Length: 101", "Expect: 100-continue"], b""),
        (["Content-Length: 200000"], b""),
        (["Transfer-Encoding: chunked"], b"65\r\n"),  # announced is enough
        (["Transfer-Encoding: chunked"], b"64\r\n" + b"x" * 100 + b"\r\n1\r\nx\r\n"),
    ):
        client = await world.client()
        client.get("/fn/hello", *lines, method="POST")
        client.send(body)
        answer = await client.answer()
        assert (answer.status, answer.code) == (413, "too_large")
    assert not [head for head in pod.heads if b"Content-Length: " in head]
    client = await world.client()
    client.post(b"x" * 100)
    assert (await client.answer()).status == 200
    client.get("/fn/hello", "Transfer-Encoding: chunked", method="POST")
    client.send(b"64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\n")
    assert (await client.answer()).status == 200


async def test_a_limit_that_is_learned_with_the_pod_holds_for_those_that_waited(
    world: World,
) -> None:
    pod = await world.pod()
    go = asyncio.Event()

    async def activate(name: str) -> Any:
        await go.wait()
        return world.controller.route(pod, body_limit=100)

    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router()
    clients = [await world.client() for _ in range(5)]
    clients[0].post(b"x" * 101)
    clients[1].get("/fn/hello", "Transfer-Encoding: chunked", method="POST")
    clients[1].send(b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n")
    clients[2].get("/fn/hello", "Transfer-Encoding: chunked", method="POST")
    clients[2].send(b"32\r\n" + b"x" * 50 + b"\r\n")
    clients[3].post(b"x" * 100)
    clients[4].get("/fn/hello")
    await world.seen(lambda: world.plane.activator.waiting == 5)
    go.set()
    for client, status in zip(clients, (413, 413, 0, 200, 200), strict=True):
        if status:
            assert (await client.answer()).status == status
    clients[2].send(b"33\r\n")  # 51 more are too many
    assert (await clients[2].answer()).status == 413
    await world.seen(lambda: not world.plane.table.functions["hello"].in_flight)


async def test_a_function_that_takes_too_long_is_504_and_its_pod_is_told(world: World) -> None:
    async def handler(pod: PodConnection) -> None:
        await pod.reader.read()

    pod = await world.serving(handler)
    world.controller.publish(pod, timeout_ms=100)
    await world.seen(lambda: world.plane.table.functions["hello"].timeout == 0.1)
    client = await world.client()
    client.get()
    answer = await client.answer()
    assert (answer.status, answer.code) == (504, "timeout")
    await pod.left.wait()
    client.get("/")
    assert (await client.answer()).status == 200


async def test_a_slow_head_is_408_and_an_idle_connection_closes(world: World) -> None:
    await world.serving(head_timeout=0.2, idle_timeout=0.3)
    slow, idle, silent = await world.client(), await world.client(), await world.client()
    slow.send(b"GET /fn/hello HTT")
    idle.get()
    assert (await idle.answer()).status == 200
    answer = await slow.answer()
    assert (answer.status, answer.code) == (408, "head_timeout")
    assert await slow.closed() == b""
    assert await idle.closed() == b""
    assert await silent.closed() == b""


async def test_a_pod_whose_host_does_not_answer_is_left_for_another(
    world: World, full_backlog: str
) -> None:
    lost, alive = await world.pod(), await world.pod(activation="act-2")
    lost.address = full_backlog
    world.controller.route(lost, alive)
    await world.start_controller()
    await world.start_router(connect_timeout=0.2)
    for _ in range(2):
        client = await world.client()
        client.post(b"any method: nothing was sent")
        assert (await client.answer()).body == b"ok"
    assert world.plane.table.functions["hello"].traffic.retries == {"connect": 1}


async def test_without_another_pod_it_is_503(world: World, full_backlog: str) -> None:
    async def activate(name: str) -> Any:
        raise GRPCError(Status.RESOURCE_EXHAUSTED, "no more pods")

    lost = await world.pod()
    lost.address = full_backlog
    world.controller.route(lost)
    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router(connect_timeout=0.2)
    client = await world.client()
    client.get()
    answer = await client.answer()
    assert (answer.status, answer.code) == (503, "no_capacity")
    assert answer.header("retry-after") is not None


async def test_a_request_waits_for_a_place_only_so_long(world: World) -> None:
    held = await saturated(world, queue_timeout=0.3)
    client = await world.client()
    client.post(b"waits")
    answer = await client.answer()
    assert (answer.status, answer.code) == (503, "no_capacity")
    assert answer.header("retry-after") is not None
    assert world.plane.activator.waiting == 0
    held.set()


async def test_a_functions_full_queue_is_no_other_functions_trouble(world: World) -> None:
    held = await saturated(world, queue_size=2)
    other = await world.pod(activation="act-2")
    world.controller.publish(other, name="other")
    waiting = [await world.client(), await world.client()]
    for client in waiting:
        client.get()
    await world.seen(lambda: world.plane.activator.waiting == 2)
    late = await world.client()
    late.get()
    assert (await late.answer()).code == "no_capacity"
    for _ in range(3):
        late.get("/fn/other")
        assert (await late.answer()).body == b"ok"
    held.set()
    for client in waiting:
        assert (await client.answer()).body == b"ok"


async def test_an_idle_connection_to_a_pod_is_kept_only_so_long(world: World) -> None:
    pod = await world.serving(pod_idle_timeout=0.2)
    client = await world.client()
    client.get()
    assert (await client.answer()).body == b"ok"
    await pod.left.wait()
    client.get()
    assert (await client.answer()).body == b"ok"
    assert len(pod.connections) == 2


async def test_a_long_body_that_is_not_sent_to_its_end_is_504(world: World) -> None:
    async def handler(pod: PodConnection) -> None:
        pod.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await pod.reader.read()

    pod = await world.pod(handler)
    world.controller.route(pod, timeout_ms=300)
    await world.start_controller()
    await world.start_router()
    client = await world.client()
    client.get("/fn/hello", "Content-Length: 1000000", method="POST")
    client.send(b"x" * 200_000)
    answer = await client.answer()
    assert (answer.status, answer.code) == (504, "timeout")
    await pod.left.wait()
    await world.seen(lambda: world.plane.table.functions["hello"].in_flight == 0)


async def saturated(world: World, **settings: object) -> asyncio.Event:
    """/fn/hello has one pod, at work for one request until the event is set, and gets no more."""
    held = asyncio.Event()

    async def handler(pod: PodConnection) -> None:
        await pod.body()
        await held.wait()
        pod.send(world.ok)

    async def activate(name: str) -> Any:
        raise GRPCError(Status.RESOURCE_EXHAUSTED, "no more pods")

    pod = await world.pod(handler)
    world.controller.route(pod, concurrency=1)
    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router(**settings)
    first = await world.client()
    first.get()
    await world.seen(lambda: pod.heads)
    return held


def test_no_more_connections_are_taken_than_files_may_be_open() -> None:
    program = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (600, 600))
from sanfran_router.files import affordable, shortage
print(affordable(20000), affordable(100), repr(shortage(100)))
print(shortage(20000))
"""
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    figures, why = out.stdout.splitlines()
    assert figures == "300 100 ''"
    assert "only 600 files" in why
    assert "--max-connections 300" in why
