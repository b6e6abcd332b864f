"""Arrival traces in simulated time, through the real decisions: what clients see, and what it costs.

The bounds are some way above what was seen, and every run is the same. `python -m bench scenarios` prints them
all beside naive decisions.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from bench.scenarios.play import Score, observe, percentile, play
from bench.scenarios.traces import SCENARIOS

NAMED = {scenario.name: scenario for scenario in SCENARIOS}


@cache
def played(name: str) -> Score:
    return play(NAMED[name])


@pytest.mark.parametrize("name", [name for name in NAMED if name != "one greedy"])
def test_no_request_is_lost(name: str) -> None:
    assert played(name).lost == 0


@pytest.mark.parametrize("name", NAMED)
def test_the_caps_hold(name: str) -> None:
    assert played(name).pods <= NAMED[name].limits.pods


@pytest.mark.parametrize(
    ("name", "p50", "p99"),
    [
        ("steady", 0.05, 0.2),
        ("diurnal", 0.006, 0.1),
        ("long tail", 0.006, 0.01),
        ("slow starts", 0.006, 0.5),
        ("1 in 5 fails", 0.006, 0.01),
        ("1 in 5 hangs", 0.006, 0.1),
        ("50 at once", 0.5, 1.1),
        ("50 at once, slow", 2.1, 2.1),
        ("one greedy", 0.01, 1.0),
        ("at the cap", 0.006, 0.15),
    ],
)
def test_cold_calls_wait_no_longer_than(name: str, p50: float, p99: float) -> None:
    score = played(name)
    assert score.cold_p50 <= p50
    assert score.cold_p99 <= p99


@pytest.mark.parametrize(
    ("name", "p99"),
    [
        ("steady", 0.02),
        ("diurnal", 0.02),
        ("spike x50", 0.3),
        ("cpu-bound", 0.15),
        ("up and down", 0.02),
    ],
)
def test_all_calls_wait_no_longer_than(name: str, p99: float) -> None:
    assert played(name).p99 <= p99


def test_a_burst_starts_no_more_pods_than_it_needs() -> None:
    for name in ("50 at once", "50 at once, slow"):
        assert played(name).started == 4 * 50
        assert played(name).surplus == 0


@pytest.mark.parametrize(
    ("name", "surplus"), [("slow starts", 2000), ("spike x50", 3500), ("1 in 5 fails", 10)]
)
def test_few_pods_are_there_for_nothing(name: str, surplus: float) -> None:
    assert played(name).surplus <= surplus


def test_nothing_flaps() -> None:
    assert played("up and down").changes <= 20
    assert played("cpu-bound").changes <= 20
    assert played("spike x50").changes <= 50


def test_every_function_has_its_turn_while_one_could_use_every_pod() -> None:
    seen = observe(NAMED["one greedy"])
    others = [wait for name, one in seen.by_function.items() if name != "greedy" for wait in one]
    asked = sum(arrival.function != "greedy" for arrival in NAMED["one greedy"].arrivals())
    assert len(others) == asked
    assert percentile(others, 0.5) < 0.01
    assert max(others) < 1.0
    assert len(seen.by_function["greedy"]) > 4000


def test_every_run_is_the_same() -> None:
    assert play(NAMED["spike x50"]) == played("spike x50")


def test_naive_decisions_are_worse_which_says_that_the_scenarios_see_something() -> None:
    slow, down = NAMED["slow starts"], NAMED["up and down"]
    assert play(slow, naive=True).cold_p99 > 3 * played("slow starts").cold_p99
    assert play(down, naive=True).changes > 10 * played("up and down").changes


def test_a_machine_on_which_every_second_start_fails_serves_all_the_same() -> None:
    half = NAMED["1 in 5 fails"]
    score = play(replace(half, machine=replace(half.machine, refuses=2)))
    assert score.lost == 0
    assert score.cold_p99 < 0.5
