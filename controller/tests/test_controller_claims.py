"""Who gets the next pod, also when claims are cancelled in the worst moment."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from sanfran_controller.claims import ClaimQueue, ClaimsFull
from sanfran_controller.errors import NoCapacity
from sanfran_controller.pods import Pod
from sanfran_controller.pool import Pool, PoolLimits
from sanfran_controller.states import PodEvent, PodState
from sanfran_controller.stock import ClaimDropped, Stock

names = (f"pod-{number}" for number in itertools.count())


def queue_of(*claims: str, most: int = 100, growth: str = "") -> ClaimQueue[str]:
    queue: ClaimQueue[str] = ClaimQueue(most)
    for claim in claims:
        queue.add(claim[0], claim, growth=claim[0] in growth)
    return queue


def taken(queue: ClaimQueue[str], *, growth: bool = True) -> list[str]:
    return list(iter(lambda: queue.take(growth=growth) or "", ""))


def test_functions_take_turns() -> None:
    queue = queue_of("a1", "a2", "a3", "b1", "c1", "c2")
    assert taken(queue) == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert len(queue) == 0


def test_cold_functions_come_before_growing_ones() -> None:
    assert taken(queue_of("a1", "a2", "b1", growth="a")) == ["b1", "a1", "a2"]


def test_growth_waits_while_it_may_not_have_any() -> None:
    queue = queue_of("a1", "b1", growth="a")
    assert taken(queue, growth=False) == ["b1"]
    assert len(queue) == 1


def test_a_full_queue_refuses() -> None:
    queue = queue_of("a1", "a2", most=2)
    with pytest.raises(ClaimsFull):
        queue.add("b", "b1", growth=False)


def test_what_is_discarded_or_dropped_has_no_turn() -> None:
    queue = queue_of("a1", "a2", "b1", "c1", growth="c")
    queue.discard("a", "a1")
    queue.discard("a", "never there")
    assert queue.drop("b") == ["b1"]
    assert taken(queue) == ["a2", "c1"]


def stock_of(pods: int, *, size: int = 0, most: int = 100) -> Stock:
    stock = Stock(Pool(PoolLimits(size=size)), claims_most=most)
    for _ in range(pods):
        arrive(stock)
    return stock


def arrive(stock: Stock) -> Pod:
    pod = Pod(next(names), None)
    stock.enter(pod)
    stock.step(pod, PodEvent.WARMED)
    return pod


async def test_a_claim_takes_a_pod_without_waiting() -> None:
    stock = stock_of(1)
    pod = await stock.claim("a", growth=False)
    assert pod.state is PodState.ACTIVATING
    assert stock.idle == 0


async def test_a_claim_cancelled_while_its_pod_arrives_passes_the_pod_on() -> None:
    stock = stock_of(0)
    first = asyncio.ensure_future(stock.claim("a", growth=False))
    second = asyncio.ensure_future(stock.claim("b", growth=False))
    await asyncio.sleep(0)
    pod = arrive(stock)  # `first` has it now, and has not run since
    first.cancel()
    assert await second is pod
    assert first.cancelled()
    assert pod.state is PodState.ACTIVATING
    assert stock.waiting == 0


async def test_a_claim_cancelled_in_the_same_tick_before_its_pod_arrives_loses_nothing() -> None:
    stock = stock_of(0)
    first = asyncio.ensure_future(stock.claim("a", growth=False))
    await asyncio.sleep(0)
    first.cancel()
    pod = arrive(stock)
    await asyncio.wait({first})
    assert (pod.state, stock.idle, stock.waiting) == (PodState.GENERIC, 1, 0)


async def test_a_claim_whose_pod_died_before_it_woke_does_not_bring_it_back() -> None:
    stock = stock_of(0)
    first = asyncio.ensure_future(stock.claim("a", growth=False))
    await asyncio.sleep(0)
    pod = arrive(stock)
    stock.step(pod, PodEvent.LOST)
    first.cancel()
    await asyncio.wait({first})
    assert (stock.idle, pod.state) == (0, PodState.GONE)


async def test_growth_leaves_half_the_pool_to_cold_functions() -> None:
    stock = stock_of(4, size=4)
    await stock.claim("a", growth=True)
    await stock.claim("a", growth=True)
    third = asyncio.ensure_future(stock.claim("a", growth=True))
    await asyncio.sleep(0)
    assert not third.done()
    await stock.claim("b", growth=False)
    arrive(stock)
    await asyncio.sleep(0)
    assert not third.done()
    arrive(stock)
    await third


async def test_claims_of_a_function_that_went_away_end() -> None:
    stock = stock_of(0)
    claim = asyncio.ensure_future(stock.claim("a", growth=False))
    await asyncio.sleep(0)
    stock.drop_claims("a")
    with pytest.raises(ClaimDropped):
        await claim


async def test_one_claim_too_many_is_refused() -> None:
    stock = stock_of(0, most=1)
    waiting = asyncio.ensure_future(stock.claim("a", growth=False))
    await asyncio.sleep(0)
    with pytest.raises(NoCapacity):
        await stock.claim("b", growth=False)
    waiting.cancel()
    await asyncio.wait({waiting})


async def test_counts_follow_the_table() -> None:
    stock = stock_of(3)
    pod = await stock.claim("a", growth=False)
    stock.step(pod, PodEvent.LOADED)
    stock.step(pod, PodEvent.FENCED)
    assert stock.facts(leaving=1).returning == 1
    assert stock.facts(leaving=1).pods == 4
    stock.held_up(pod)
    assert stock.facts(leaving=0).returning == 0
    stock.step(pod, PodEvent.RECYCLE)
    stock.step(pod, PodEvent.RECYCLED)
    facts = stock.facts(leaving=0)
    assert (facts.idle, facts.returning, facts.pods) == (3, 0, 3)
    stock.step(stock.oldest_idle(1)[0], PodEvent.LOST)
    assert stock.facts(leaving=0).pods == 2
