"""Pods that say that they take no requests any more: runtime/src/farewell.js."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

World = Any
PodConnection = Any

FAREWELL = (
    b"HTTP/1.1 421 Misdirected Request\r\nX-Sanfran-Retry: draining\r\n"
    b"Connection: close\r\nContent-Length: 0\r\n\r\n"
)
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


async def next_pod(world: World) -> Any:
    """The one that a router is given when it asks."""
    pod = await world.pod(activation="act-2")

    async def activate(name: str) -> Any:
        return world.controller.route(pod)

    world.controller.on_activate = activate
    return pod


@pytest.mark.parametrize(
    "said",
    [
        [WHOLE + FAREWELL],
        [WHOLE, FAREWELL],
        [WHOLE[:-1], WHOLE[-1:] + FAREWELL],
        [CHUNKED + FAREWELL],
    ],
    ids=["with the answer", "idle", "with its last byte", "behind the last chunk"],
)
async def test_a_pod_that_says_farewell_gets_no_request_any_more(
    world: World, said: list[bytes]
) -> None:
    async def answer_and_part(connection: PodConnection) -> None:
        for part in said:
            connection.send(part)
            await asyncio.sleep(0.02)

    leaving = await world.serving(answer_and_part)
    fresh = await next_pod(world)
    client = await world.client()
    client.get()
    assert (await client.answer()).body == b"ok"
    hello = world.plane.table.functions["hello"]
    await world.seen(lambda: not hello.endpoints)
    assert hello.setbacks == 0  # the next one need not wait before it asks
    client.post(b"x")
    assert (await client.answer()).body == b"ok"
    assert len(leaving.heads) == 1
    assert len(fresh.heads) == 1


async def test_a_request_that_crosses_a_farewell_goes_elsewhere(world: World) -> None:
    async def answer_once(connection: PodConnection) -> None:
        connection.send(WHOLE if len(leaving.heads) == 1 else FAREWELL)

    leaving = await world.serving(answer_once)
    fresh = await next_pod(world)
    client = await world.client()
    for _ in range(3):
        client.post(b"x")
        assert (await client.answer()).body == b"ok"
    assert (len(leaving.heads), len(fresh.heads)) == (2, 2)


async def test_what_a_pod_says_unasked_is_otherwise_no_farewell(world: World) -> None:
    async def answer_twice(connection: PodConnection) -> None:
        connection.send(WHOLE + WHOLE)

    pod = await world.serving(answer_twice)
    client = await world.client()
    for _ in range(2):
        client.post(b"x")
        assert (await client.answer()).body == b"ok"
    assert len(pod.connections) == 2  # over which one comes, nothing more is sent
