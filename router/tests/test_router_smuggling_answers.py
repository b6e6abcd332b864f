"""A pod runs a stranger's code: what it answers reaches the client that asked, and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from router.tests.hostile_answers import BROKEN, FORGED, NO_ANSWER, SURPLUS
from router.tests.wire import OTHER, Message, answer, answers_in, recorder

World = Any
Check = Callable[[bytes], None]
TRUTH = b"GET /fn/hello/truth HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def lied_to(world: World, method: bytes) -> bytes:
    """All that a client gets that asks for the lie, and for the truth after it."""
    client = await world.client()
    client.send(b"%b /fn/hello/lie HTTP/1.1\r\nHost: a\r\n\r\n" % method + TRUTH)
    raw = b""
    with suppress(ConnectionError):
        while data := await client.reader.read(65536):
            raw += data
    client.close()
    return raw


async def served(client: Any) -> None:
    """Another client gets its own answers, over whatever connections to the pod there are."""
    client.send(OTHER * 2)
    for _ in range(2):
        assert (await client.answer()).body == b"GET /fn/hello/other "


async def check_lies(world: World, lies: dict[str, tuple[bytes, bytes, Check]]) -> None:
    """Lets a pod tell each of them (method, lie, what to look at in the bytes that a client got)."""
    lie = b""

    def say(message: Message) -> bytes:
        return lie if message.target == b"/fn/hello/lie" else answer(message)

    wrong = []
    async with recorder(say) as pod:
        world.controller.route(pod)
        await world.start_controller()
        await world.start_router()
        for name, (method, lie, check) in lies.items():  # noqa: B007 - say() tells it
            other = await world.client()
            try:
                await served(other)
                got = await lied_to(world, method)
                check(got)
                assert b"forged" not in got
                await served(other)
            except (AssertionError, ValueError) as error:
                wrong.append(f"{name}: {str(error)[:300]}")
            other.close()
    assert not wrong, "\n".join(wrong)


def is_502_and_the_truth(got: bytes) -> None:
    refused, truth = (one for one in answers_in(got) if one.status >= 200)
    assert (refused.status, b"pod_failed" in refused.body) == (502, True)
    assert truth.body == b"GET /fn/hello/truth "


async def test_what_is_no_answer_is_502_and_the_clients_connection_goes_on(world: World) -> None:
    await check_lies(
        world, {name: (b"GET", lie, is_502_and_the_truth) for name, lie in NO_ANSWER.items()}
    )


def breaks_off(got: bytes) -> None:
    answers = answers_in(got)
    assert [one.whole for one in answers] in ([], [False])


async def test_an_answer_that_goes_bad_breaks_off(world: World) -> None:
    await check_lies(world, {name: (b"GET", lie, breaks_off) for name, lie in BROKEN.items()})


async def test_what_comes_behind_an_answer_reaches_nobody(world: World) -> None:
    def ends_with(body: bytes, method: bytes) -> Check:
        def check(got: bytes) -> None:
            first, truth = answers_in(got, methods=iter([method, b"GET"]))
            assert got.partition(b"\r\n\r\n")[2].startswith(body + b"HTTP/1.1 200 OK\r\n")
            assert first.whole
            assert truth.body == b"GET /fn/hello/truth "

        return check

    await check_lies(
        world,
        {
            name: (method, lie, ends_with(body, method))
            for name, (method, lie, body) in SURPLUS.items()
        },
    )


async def test_what_a_pod_says_unasked_between_requests_reaches_nobody(world: World) -> None:
    pod = await world.serving()
    client = await world.client()
    client.get()
    assert (await client.answer()).body == b"ok"
    pod.connections[0].send(FORGED)
    await pod.left.wait()
    client.get()
    assert (await client.answer()).body == b"ok"
    assert len(pod.connections) == 2
