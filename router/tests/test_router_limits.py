"""Limits and timeouts answer as the table says."""

from __future__ import annotations

from typing import Any

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
