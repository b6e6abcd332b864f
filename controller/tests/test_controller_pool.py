"""The pool's decisions, as scenarios on a simulated clock."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from sanfran_controller.pool import Pool, PoolAction, PoolFacts, PoolLimits, Rate


@dataclass
class Score:
    waits: list[float] = field(default_factory=list)
    started: int = 0
    stopped: int = 0
    most: int = 0
    most_starting: int = 0
    idle_at_end: int = 0

    def wait(self, share: float) -> float:
        ordered = sorted(self.waits)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]

    @property
    def misses(self) -> float:
        return sum(wait > 0 for wait in self.waits) / len(self.waits)


def simulate(
    arrivals: list[float],
    limits: PoolLimits,
    *,
    start_time: float = 0.2,
    use: float = 60.0,
    until: float = 0.0,
    fails: Callable[[int], bool] = lambda number: False,
) -> Score:
    """Claims at given times; each holds its pod for `use` seconds, then the pod is deleted."""
    pool, score = Pool(limits), Score()
    events: list[tuple[float, int, str]] = []
    number = 0

    def at(when: float, what: str) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (when, number, what))

    for arrival in arrivals:
        at(arrival, "claim")
    idle, starting, used = 0, 0, 0
    waiting: list[float] = []
    last = (max(arrivals) if arrivals else 0.0) + 5.0
    end = max(until, last)
    at(0.0, "look")
    while events:
        now, _, what = heapq.heappop(events)
        if now > end:
            break
        if what == "claim":
            pool.claimed(now)
            waiting.append(now)
        elif what == "ready":
            starting -= 1
            idle += 1
            pool.started(start_time, now)
        elif what == "failed":
            starting -= 1
            pool.start_failed(now, now - start_time)
        elif what == "over":
            used -= 1
        while waiting and idle:
            score.waits.append(now - waiting.pop(0))
            idle -= 1
            used += 1
            at(now + use, "over")
        facts = PoolFacts(idle, starting, 0, len(waiting), idle + starting + used)
        action = pool.decide(facts, now)
        for _ in range(action.start):
            score.started += 1
            starting += 1
            at(now + start_time, "failed" if fails(score.started) else "ready")
        idle -= action.stop
        score.stopped += action.stop
        score.most = max(score.most, idle + starting + used)
        score.most_starting = max(score.most_starting, starting)
        if action.again_at is not None:
            at(max(action.again_at, now + 0.001), "look")
    score.idle_at_end = idle
    return score


def poisson(rate: float, seconds: float, seed: int = 7, start: float = 2.0) -> list[float]:
    chance, now, times = random.Random(seed), start, []
    while (now := now + chance.expovariate(rate)) < start + seconds:
        times.append(now)
    return times


def test_without_traffic_the_pool_has_its_size() -> None:
    score = simulate([], PoolLimits(size=4), until=100)
    assert (score.started, score.idle_at_end) == (4, 4)


def test_single_calls_now_and_then_always_find_a_pod() -> None:
    score = simulate([5.0 + 3 * number for number in range(50)], PoolLimits(size=2))
    assert score.misses == 0
    assert score.started == 52


def test_a_steady_rate_is_served_from_a_pool_that_grew_to_it() -> None:
    score = simulate(poisson(40, 60), PoolLimits(size=4, starts_at_once=64), start_time=0.5, use=1)
    grown = score.waits[200:]
    assert sum(wait > 0 for wait in grown) / len(grown) < 0.05
    assert score.wait(0.99) < 0.5


def test_a_burst_starts_what_it_lacks_and_no_more() -> None:
    limits = PoolLimits(size=10, most=10, starts_at_once=100)
    score = simulate([5.0] * 50, limits)
    assert len(score.waits) == 50
    assert score.started == 10 + 50  # the pool once, and one for each that was taken
    assert max(score.waits) <= 0.2 + 1e-6


def test_pods_start_a_few_at_a_time_so_that_the_first_are_there_early() -> None:
    score = simulate([5.0] * 50, PoolLimits(size=2, most=2, starts_at_once=8))
    assert score.most_starting == 8
    assert len(score.waits) == 50


def test_a_spike_is_forgotten_and_its_surplus_deleted() -> None:
    spike = [5.0 + number / 20 for number in range(200)]
    score = simulate(spike, PoolLimits(size=4, most=64, surplus_after=10), until=400)
    assert score.idle_at_end == 4
    assert score.stopped > 0


def test_a_short_lull_deletes_nothing() -> None:
    arrivals = poisson(20, 20) + poisson(20, 20, start=28)
    score = simulate(arrivals, PoolLimits(size=4, most=64, surplus_after=15), until=40)
    assert score.stopped == 0


def test_slow_starts_make_the_pool_larger() -> None:
    arrivals = poisson(5, 60)
    fast = simulate(arrivals, PoolLimits(size=2, most=64), start_time=0.2)
    slow = simulate(arrivals, PoolLimits(size=2, most=64, starts_at_once=32), start_time=3.0)
    assert slow.most > fast.most
    assert slow.misses < 0.35


def test_one_start_in_five_failing_delays_little() -> None:
    arrivals = poisson(5, 60)
    score = simulate(arrivals, PoolLimits(size=4), fails=lambda number: number % 5 == 0)
    assert len(score.waits) == len(arrivals)
    assert score.wait(0.99) < 0.6


def test_starts_that_always_fail_are_tried_ever_more_rarely() -> None:
    score = simulate([5.0], PoolLimits(size=1), fails=lambda number: True, until=60)
    assert 5 < score.started < 20


def test_a_start_that_hung_while_others_came_is_no_reason_to_wait() -> None:
    pool = Pool(PoolLimits(size=8))
    empty = PoolFacts(idle=0, arriving=0, returning=0, waiting=0, pods=0)
    pool.started(0.1, 10.0)
    pool.start_failed(30.0, 5.0)
    assert pool.decide(empty, 30.0).start == 8
    pool.start_failed(30.0, 11.0)
    assert pool.decide(empty, 30.0).start == 0


def test_nobody_waits_for_a_start_that_hangs() -> None:
    pool = Pool(PoolLimits(size=0, starts_at_once=4))
    hangs = PoolFacts(idle=0, arriving=1, returning=0, waiting=1, pods=1, overdue_at=7.0)
    action = pool.decide(hangs, 5.0)
    assert (action.start, action.again_at) == (0, 7.0)
    assert pool.decide(replace(hangs, overdue=1, overdue_at=None), 7.0).start == 1


def test_starts_that_hang_block_the_rest_only_when_they_are_many() -> None:
    pool = Pool(PoolLimits(size=0, starts_at_once=4))
    facts = PoolFacts(idle=0, arriving=4, returning=0, waiting=9, pods=4, overdue=4)
    assert pool.decide(facts, 0.0).start == 4
    assert pool.decide(replace(facts, arriving=7, overdue=7), 0.0).start == 1
    assert pool.decide(replace(facts, arriving=8, overdue=8), 0.0).start == 0


def test_a_burst_is_no_rate() -> None:
    pool = Pool(PoolLimits(size=2, most=100))
    pool.started(3.0, 0.0)
    for _ in range(50):
        pool.claimed(10.1)
    assert pool.target(10.1) < 20
    assert pool.target(11.2) < 20


def test_a_rate_is_believed_when_it_has_lasted_for_a_second_span() -> None:
    pool = Pool(PoolLimits(size=2, most=1000))
    for number in range(150):
        pool.claimed(10 + number / 100)
    assert pool.rate(11.5) >= 50
    assert pool.rate(15.0) < 10


def test_starts_that_fail_together_count_as_one_failure() -> None:
    pool = Pool(PoolLimits(size=8))
    empty = PoolFacts(idle=0, arriving=0, returning=0, waiting=0, pods=0)
    for _ in range(8):
        pool.start_failed(10.0, 10.0)
    assert pool.decide(empty, 10.05).start == 0
    assert pool.decide(empty, 10.11).start == 8
    pool.start_failed(10.2, 10.2)
    assert pool.decide(empty, 10.41).start == 1  # a single one finds out
    pool.start_failed(10.5, 10.5)
    assert pool.decide(empty, 10.6).start == 0
    pool.provider_back()
    assert pool.decide(empty, 10.6).start == 8


def test_the_cap_holds() -> None:
    score = simulate([5.0] * 50, PoolLimits(size=4, pods=20), use=1.0, until=60)
    assert score.most == 20
    assert len(score.waits) == 50


def decide(limits: PoolLimits, facts: PoolFacts) -> PoolAction:
    return Pool(limits).decide(facts, 0.0)


def test_at_the_cap_idle_activations_are_asked_for_for_claims_and_pool() -> None:
    limits = PoolLimits(size=2, pods=10)
    facts = PoolFacts(idle=0, arriving=1, returning=1, waiting=5, pods=10)
    action = decide(limits, facts)
    assert (action.start, action.reclaim) == (0, 3 + 2)
    assert action.again_at is not None


def test_without_an_idle_activation_no_claim_has_all_of_them_looked_at_again_for_a_moment() -> None:
    pool = Pool(PoolLimits(size=2, pods=10))
    facts = PoolFacts(idle=0, arriving=0, returning=0, waiting=5, pods=10)
    assert pool.decide(facts, 0.0).reclaim == 7
    pool.none_idle(0.0)
    action = pool.decide(facts, 0.1)
    assert action.reclaim == 0
    assert action.again_at is not None
    assert pool.decide(facts, action.again_at).reclaim == 7


def test_a_target_that_falls_with_time_alone_is_looked_at_again() -> None:
    pool = Pool(PoolLimits(size=2))
    for _ in range(40):
        pool.claimed(0.0)
    facts = PoolFacts(idle=pool.target(0.0), arriving=0, returning=0, waiting=0, pods=40)
    now, stopped = 0.0, 0
    while stopped < facts.idle - 2:
        action = pool.decide(facts, now)
        assert action.again_at is not None
        now, stopped = action.again_at, stopped + action.stop
    assert now < 120


def test_at_the_cap_idle_activations_refill_the_pool_to_its_size() -> None:
    facts = PoolFacts(idle=1, arriving=0, returning=0, waiting=0, pods=10)
    assert decide(PoolLimits(size=3, pods=10), facts).reclaim == 2
    assert decide(PoolLimits(size=3, pods=11), facts).reclaim == 1
    assert decide(PoolLimits(size=3, pods=12), facts).reclaim == 0


def test_idle_pods_that_other_controllers_lack_room_for_go_though_the_pool_wants_them() -> None:
    pool = Pool(PoolLimits(size=2, pods=3, excess=2, surplus_after=15.0))
    facts = PoolFacts(idle=1, arriving=0, returning=0, waiting=0, pods=5)
    action = pool.decide(facts, 0.0)
    assert (action.stop, action.reclaim, action.again_at) == (0, 0, 15.0)
    action = pool.decide(facts, 15.0)
    assert (action.stop, action.why) == (1, "1 above this controller's part of 3 pods for 15 s")


def test_others_that_lack_room_have_no_activation_ended_and_no_claim_forgotten() -> None:
    limits = PoolLimits(size=0, pods=3, excess=2)
    none_idle = PoolFacts(idle=0, arriving=0, returning=0, waiting=0, pods=5)
    assert decide(limits, none_idle) == decide(replace(limits, excess=0), none_idle)
    claims_wait = PoolFacts(idle=1, arriving=0, returning=0, waiting=3, pods=5)
    assert decide(limits, claims_wait).reclaim == 2


def test_a_provider_that_is_full_is_a_cap_for_a_while() -> None:
    pool = Pool(PoolLimits(size=4, pods=100))
    pool.provider_full(10, 0.0)
    facts = PoolFacts(idle=0, arriving=0, returning=0, waiting=0, pods=10)
    assert pool.decide(facts, 1.0).start == 0
    assert pool.decide(facts, 1.0).reclaim == 4
    assert pool.decide(facts, 6.0).start == 4


def test_pods_that_come_back_count_as_there() -> None:
    facts = PoolFacts(idle=1, arriving=1, returning=2, waiting=0, pods=9)
    assert decide(PoolLimits(size=4), facts).start == 0


def test_pods_are_wanted_back_only_up_to_the_target() -> None:
    pool = Pool(PoolLimits(size=2))
    assert pool.wants_back(PoolFacts(1, 0, 0, 0, 5), 0.0)
    assert not pool.wants_back(PoolFacts(2, 0, 0, 0, 5), 0.0)
    assert pool.wants_back(PoolFacts(2, 0, 0, 1, 5), 0.0)


def test_where_starts_are_slow_pods_above_the_target_come_back_for_claims_that_are_expected() -> (
    None
):
    pool = Pool(PoolLimits(size=50, first_guess=5.0, recycling_is_faster=True, surplus_after=15.0))
    for second in range(60):
        pool.claimed(float(second))
    now = 60.0
    kept = pool.target(now) + 10  # of the fifteen that will be claimed in as many seconds
    assert pool.wants_back(PoolFacts(kept, 0, 0, 0, 200), now)
    assert not pool.wants_back(PoolFacts(kept + 20, 0, 0, 0, 200), now)


@pytest.mark.parametrize("over", [2.0, 30.0])
def test_a_rate_is_measured_and_forgotten(over: float) -> None:
    rate = Rate(over)
    for number in range(int(over * 50)):
        rate.count(number / 10)
    now = over * 5
    assert rate.at(now) == pytest.approx(10, rel=0.1)
    assert rate.at(now + over * 5) < 0.1


def test_where_recycling_is_faster_than_a_start_pods_that_start_are_no_reason_to_delete_one() -> (
    None
):
    starting = PoolFacts(idle=1, arriving=3, returning=0, waiting=0, pods=5)
    assert not Pool(PoolLimits(size=4)).wants_back(starting, 0.0)
    faster = Pool(PoolLimits(size=4, recycling_is_faster=True))
    assert faster.wants_back(starting, 0.0)
    enough = PoolFacts(idle=3, arriving=0, returning=1, waiting=0, pods=5)
    assert not faster.wants_back(enough, 0.0)
