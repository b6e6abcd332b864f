"""Decisions about one function's pods, as scenarios on a simulated clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sanfran_controller.scaling import Scaler, ScalingFacts, ScalingPolicy

FACTS = ScalingFacts(
    concurrency=1, min_scale=0, max_scale=0, idle_timeout=60, pods=1, arriving=0, demand=0
)


def run(
    demand: Callable[[int], int],
    seconds: int,
    facts: ScalingFacts = FACTS,
    policy: ScalingPolicy | None = None,
) -> list[int]:
    """Pods after each second, when every decision is carried out at once."""
    scaler = Scaler(policy or ScalingPolicy(), 0.0)
    pods, history = facts.pods, []
    for second in range(1, seconds + 1):
        now, load = float(second), demand(second)
        scaler.observe(load, now)
        pods = scaler.decide(replace(facts, pods=pods, demand=load), now).want
        history.append(pods)
    return history


def test_demand_over_concurrency_is_what_runs() -> None:
    assert run(lambda second: 30, 5, replace(FACTS, concurrency=10))[-1] == 3


def test_a_spike_is_followed_within_the_panic_window() -> None:
    history = run(lambda second: 50 if second > 10 else 1, 15)
    assert history[9] == 1
    assert history[11] == 50


def test_less_demand_takes_pods_away_only_after_the_stable_window() -> None:
    history = run(lambda second: 10 if second <= 10 else 2, 60)
    assert history[9] == 10
    assert history[38] == 10
    assert history[40] == 2


def test_demand_that_jumps_does_not_make_pods_flap() -> None:
    history = run(lambda second: 8 if second % 2 else 1, 120)
    settled = history[10:]
    assert len(set(settled)) == 1


def test_demand_that_waves_is_followed_without_flapping() -> None:
    history = run(lambda second: 5 + (second // 20 % 2) * 10, 200)
    changes = sum(one != other for one, other in pairwise(history[20:]))
    assert changes <= 3


def test_zero_after_the_idle_timeout_and_not_before() -> None:
    history = run(lambda second: 3 if second <= 5 else 0, 80, replace(FACTS, idle_timeout=60))
    assert history[63] == 1
    assert history[64] == 0


def test_the_last_pod_stays_until_the_idle_timeout_however_long() -> None:
    history = run(lambda second: int(second == 1), 290, replace(FACTS, idle_timeout=300))
    assert history[-1] == 1


def test_an_idle_timeout_shorter_than_reports_come_cannot_flap() -> None:
    history = run(lambda second: second % 2, 30, replace(FACTS, idle_timeout=0.1))
    assert 0 not in history


def test_a_long_request_keeps_its_pod() -> None:
    history = run(lambda second: 1, 300, replace(FACTS, idle_timeout=10))
    assert set(history) == {1}


def test_min_scale_stays_and_max_scale_holds() -> None:
    facts = replace(FACTS, min_scale=2, max_scale=5, pods=0)
    history = run(lambda second: 100 if 10 < second < 20 else 0, 200, facts)
    assert history[0] == 2
    assert max(history) == 5
    assert history[-1] == 2


def test_a_pod_that_a_saturated_router_asked_for_is_not_taken_back() -> None:
    scaler = Scaler(ScalingPolicy(), 0.0)
    for second in range(1, 20):
        # Peaks of 3 at concurrency 1 were served by a third pod, asked for between two ticks.
        scaler.observe(3, float(second))
        facts = replace(FACTS, pods=3, demand=0)
        assert scaler.decide(facts, float(second)).want == 3


def test_pods_on_their_way_count() -> None:
    scaler = Scaler(ScalingPolicy(), 0.0)
    scaler.observe(10, 1.0)
    scaler.observe(10, 2.0)
    assert scaler.decide(replace(FACTS, pods=1, arriving=9, demand=10), 2.0).want == 10


def test_a_function_activated_just_now_counts_as_used() -> None:
    scaler = Scaler(ScalingPolicy(), 0.0)
    scaler.used(100.0)
    assert scaler.decide(replace(FACTS, idle_timeout=5), 104.0).want == 1
    assert scaler.decide(replace(FACTS, idle_timeout=5), 105.0).want == 0


@pytest.mark.parametrize("concurrency", [1, 7, 100])
def test_what_is_needed_is_the_highest_of_the_stable_window(concurrency: int) -> None:
    scaler = Scaler(ScalingPolicy(), 0.0)
    for second, demand in enumerate((5, 700, 20), start=1):
        scaler.observe(demand, float(second))
    assert scaler.needed(concurrency, 4.0) == -(-700 // concurrency)
    assert scaler.needed(concurrency, 40.0) == 0


def test_pods_that_routers_asked_for_stay_until_reports_have_said_what_for() -> None:
    scaler = Scaler(ScalingPolicy(), 10.0)
    assert scaler.decide(replace(FACTS, pods=3, arriving=3), 10.3).want == 6
    scaler.observe(6, 11.3)
    assert scaler.decide(replace(FACTS, pods=6), 12.5).want == 6
    idle = Scaler(ScalingPolicy(), 10.0)
    assert idle.decide(replace(FACTS, pods=6), 10.3).want == 6
    assert idle.decide(replace(FACTS, pods=6), 12.3).want == 1


settings = st.builds(
    ScalingFacts,
    concurrency=st.integers(1, 100),
    min_scale=st.integers(0, 3),
    max_scale=st.sampled_from([0, 3, 10]),
    idle_timeout=st.floats(0.1, 100),
    pods=st.integers(0, 50),
    arriving=st.just(0),
    demand=st.just(0),
)
loads = st.lists(st.tuples(st.integers(0, 200), st.sampled_from([1.0, 1.0, 1.0, 2.5, 40, 1e6])))


@given(facts=settings, trace=loads)
def test_whatever_comes_limits_hold_and_a_clock_that_jumps_forward_does_no_harm(
    facts: ScalingFacts, trace: list[tuple[int, float]]
) -> None:
    scaler, now, pods = Scaler(ScalingPolicy(), 0.0), 0.0, facts.pods
    for demand, later in trace:
        now += later
        scaler.observe(demand, now)
        before = replace(facts, pods=pods, demand=demand)
        want = scaler.decide(before, now).want
        assert want >= facts.min_scale
        assert not facts.max_scale or want <= facts.max_scale
        assert not demand or want >= min(pods, 1), "a pod with requests is not the last to go"
        assert want <= max(pods, facts.min_scale, -(-200 // facts.concurrency))
        pods = want


@given(trace=st.lists(st.integers(0, 40), min_size=40, max_size=120))
def test_no_demand_makes_pods_go_that_came_within_the_stable_window(trace: list[int]) -> None:
    policy = ScalingPolicy()
    history = [0, *run(lambda second: 1 + trace[second - 1], len(trace), policy=policy)]
    for second, (one, other) in enumerate(pairwise(history)):
        if other < one:
            recent = trace[max(second - int(policy.stable) + 1, 0) : second + 1]
            assert other >= 1 + max(recent), "fewer than what was needed a moment ago"
