"""Request smuggling: whatever is sent, no pod sees a request that the router did not mean to send.

Every input is sent in one piece, with another request behind it, to a router on a real socket.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from router.tests.hostile_requests import HIDDEN, REFUSED, STATUSES
from router.tests.odd_requests import PASSED, Passed
from router.tests.wire import (
    OTHER,
    Message,
    NodeServer,
    Peer,
    Recorder,
    answers_in,
    node_server,
    recorder,
)

World = Any
BEHIND = b"GET /fn/hello/behind HTTP/1.1\r\nHost: behind\r\nConnection: close\r\n\r\n"
FIRST = b"GET /fn/hello/other HTTP/1.1\r\nHost: other\r\n"


async def routed_to(world: World, pod: Peer) -> None:
    world.controller.route(pod)
    await world.start_controller()
    await world.start_router(max_body_bytes=4096)


async def sent(world: World, raw: bytes) -> list[Message]:
    """All answers to these bytes, until the router closes the connection."""
    client = await world.client()
    client.send(raw)
    answers = answers_in(await client.closed())
    client.close()
    return answers


async def other_is_served(world: World, client: Any) -> None:
    """A client that has nothing to do with it gets its own answer."""
    client.send(OTHER)
    assert (await client.answer()).body == b"GET /fn/hello/other "


async def check_refused(world: World, pod: Recorder, other: Any, raw: bytes, group: str) -> None:
    pod.forget()
    (answer,) = await sent(world, raw + BEHIND)
    assert answer.status in STATUSES.get(group, {400}), answer.line
    assert answer.all(b"connection") == [b"close"]
    await other_is_served(world, other)
    assert pod.raw.startswith(FIRST), pod.raw
    assert pod.raw.count(b"HTTP/1.") == 1, pod.raw


@pytest.mark.parametrize("group", REFUSED)
async def test_what_parsers_read_differently_is_refused_and_nothing_forwarded(
    world: World, group: str
) -> None:
    wrong = {}
    async with recorder() as pod:
        await routed_to(world, pod)
        other = await world.client()
        for name, raw in REFUSED[group].items():
            try:
                await check_refused(world, pod, other, raw, group)
            except (AssertionError, ValueError) as error:
                wrong[name] = str(error)[:300]
                other = await world.client()
    assert not wrong, "\n".join(f"{name}: {why}" for name, why in wrong.items())


def check_meaning(it: Passed, seen: Message) -> None:
    assert (seen.method, seen.target, seen.body) == (it.method, it.target, it.body)
    for name, value in it.has:
        assert seen.all(name) == [value], name
    for name in it.lacks:
        assert seen.all(name) == [], name
    assert seen.trailers == list(it.trailers)


async def check_passed(world: World, pod: Recorder | NodeServer, other: Any, it: Passed) -> None:
    await pod.seen()
    client = await world.client()
    client.send(it.raw + BEHIND)
    methods = iter([it.method, b"GET"])
    answers = answers_in(await client.closed(), methods=methods)
    client.close()
    expected = [b"" if it.method == b"HEAD" else b"%b %b %b" % (it.method, it.target, it.body)]
    targets = [it.target, b"/fn/hello/other"]
    if not it.closes:
        expected.append(b"GET /fn/hello/behind ")
        targets.append(b"/fn/hello/behind")
    assert [one.body for one in answers if one.status != 100] == expected
    await other_is_served(world, other)
    seen = await pod.seen()
    assert sorted(one.target for one in seen) == sorted(targets)
    check_meaning(it, next(one for one in seen if one.target == it.target))
    assert [one.all(b"x-sanfran-activation") for one in seen] == [[b"act-1"]] * len(seen)


@pytest.mark.parametrize("reader", [recorder, node_server], ids=["every byte", "Node"])
async def test_what_is_legal_has_its_one_meaning_and_hides_nothing(
    world: World, reader: Callable[[], AbstractAsyncContextManager[Recorder | NodeServer]]
) -> None:
    wrong = {}
    async with reader() as pod:
        await routed_to(world, pod)
        other = await world.client()
        for name, it in PASSED.items():
            try:
                await check_passed(world, pod, other, it)
            except (AssertionError, ValueError) as error:
                wrong[name] = str(error)[:300]
                other = await world.client()
    assert not wrong, "\n".join(f"{name}: {why}" for name, why in wrong.items())


async def test_a_body_that_no_function_takes_is_no_request(world: World) -> None:
    """CL.0: an answer that comes before the body must not leave the body to be read as a request."""
    async with recorder() as pod:
        await routed_to(world, pod)
        client = await world.client()
        client.send(
            b"POST /fn/missing HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN)
        )
        client.send(HIDDEN + BEHIND)
        bodies = [one.body for one in answers_in(await client.closed())]
        assert b"not_found" in bodies[0]
        assert bodies[1:] in ([], [b"GET /fn/hello/behind "])
        assert b"hidden" not in pod.raw
