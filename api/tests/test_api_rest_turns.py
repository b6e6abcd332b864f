"""Requests for REST take turns, and leave the loop to others in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sanfran_api.rest.turns import Turns

STEPS = 5

App = Callable[[Any, Any, Any], Awaitable[None]]


async def none() -> dict[str, Any]:
    raise AssertionError("nobody asks")


async def nowhere(message: Any) -> None:
    raise AssertionError("nobody answers")


def start(turns: Turns, number: int = 0) -> asyncio.Task[None]:
    async def request() -> None:
        await turns({"number": number}, none, nowhere)

    return asyncio.create_task(request())


async def test_between_two_steps_of_requests_the_loop_does_all_else_that_waits() -> None:
    rounds = 0
    seen: list[int] = []

    async def steps(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(STEPS):
            seen.append(rounds)
            await asyncio.sleep(0)

    async def other_work() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    turns = Turns(steps)
    other = asyncio.create_task(other_work())
    await asyncio.gather(*(start(turns) for _ in range(8)))
    other.cancel()
    assert len(seen) == 8 * STEPS
    assert len(set(seen)) == len(seen), "two steps ran in one round of the loop"


async def test_requests_take_turns_in_the_order_in_which_they_wait() -> None:
    order: list[int] = []

    async def steps(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            order.append(scope["number"])
            await asyncio.sleep(0)

    turns = Turns(steps)
    await asyncio.gather(*(start(turns, number) for number in range(4)))
    assert sorted(order[:4]) == sorted(order[4:]) == [0, 1, 2, 3]


@pytest.mark.parametrize("rounds", range(12))
async def test_a_request_that_is_cancelled_in_any_tick_leaves_its_turn_to_the_next(
    rounds: int,
) -> None:
    ended: list[int] = []

    async def steps(scope: Any, receive: Any, send: Any) -> None:
        try:
            for _ in range(STEPS):
                await asyncio.sleep(0)
        finally:
            ended.append(scope["number"])

    turns = Turns(steps)
    requests = [start(turns, number) for number in range(3)]
    for _ in range(rounds):
        await asyncio.sleep(0)
    requests[1].cancel()
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
    assert outcomes[0] is outcomes[2] is None
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert {0, 2} <= set(ended)
    async with asyncio.timeout(5):
        await start(turns)


async def test_all_that_wait_may_be_cancelled_and_the_next_request_is_served() -> None:
    async def steps(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(STEPS):
            await asyncio.sleep(0)

    turns = Turns(steps)
    requests = [start(turns) for _ in range(20)]
    await asyncio.sleep(0)
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    async with asyncio.timeout(5):
        await start(turns)


async def test_what_a_request_awaits_fails_inside_of_it() -> None:
    async def late(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await start(Turns(late))


async def test_a_request_that_swallows_its_cancellation_goes_on() -> None:
    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    request = start(Turns(stubborn))
    await asyncio.sleep(0)
    request.cancel()
    async with asyncio.timeout(5):
        await request
