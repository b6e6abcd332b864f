"""The timer wheel, on a clock that the test turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sanfran_router.wheel import NEVER, TICK, Timed, TimerWheel


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Item(Timed):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.fired: list[float] = []

    def on_deadline(self) -> None:
        self.fired.append(self.clock.now)


def run_until(wheel: TimerWheel, clock: Clock, until: float) -> None:
    while clock.now < until:
        clock.now += TICK / 2
        wheel.turn()


def test_an_item_fires_once_soon_after_its_deadline() -> None:
    clock = Clock()
    wheel, item = TimerWheel(clock), Item(clock)
    wheel.set(item, 101.03)
    run_until(wheel, clock, 103)
    assert len(item.fired) == 1
    assert 101.03 <= item.fired[0] <= 101.03 + 2 * TICK


@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=10), st.booleans())
def test_the_last_deadline_counts_whether_it_moved_earlier_or_later(
    moves: list[float], by_hand: bool
) -> None:
    clock = Clock()
    wheel, item = TimerWheel(clock), Item(clock)
    for move in moves:
        deadline = clock.now + 1 + move
        if by_hand and deadline >= item.looked_at:
            item.deadline = deadline  # as the hot path does
        else:
            wheel.set(item, deadline)
    run_until(wheel, clock, clock.now + 8)
    assert len(item.fired) == 1
    assert 101 + moves[-1] <= item.fired[0] <= 101 + moves[-1] + 2 * TICK


def test_a_forgotten_item_is_not_held_and_never_fires() -> None:
    clock = Clock()
    wheel, item = TimerWheel(clock), Item(clock)
    wheel.set(item, 101.0)
    wheel.forget(item)
    assert not wheel._slots
    run_until(wheel, clock, 102)
    assert item.fired == []
    assert item.deadline == NEVER
    wheel.set(item, 103.0)
    run_until(wheel, clock, 104)
    assert len(item.fired) == 1


def test_a_deadline_in_the_past_fires_at_the_next_turn() -> None:
    clock = Clock()
    wheel, item = TimerWheel(clock), Item(clock)
    wheel.turn()
    wheel.set(item, 50.0)
    run_until(wheel, clock, 100.3)
    assert len(item.fired) == 1


def test_a_deadline_that_fails_keeps_no_other_from_firing() -> None:
    class Failing(Item):
        def on_deadline(self) -> None:
            super().on_deadline()
            raise ZeroDivisionError("a defect")

    clock = Clock()
    wheel = TimerWheel(clock)
    items = [Failing(clock) for _ in range(5)]
    for item in items:
        wheel.set(item, 101.0)
    for _ in items:
        with pytest.raises(ZeroDivisionError):
            run_until(wheel, clock, 103)
    run_until(wheel, clock, 103)
    assert [len(item.fired) for item in items] == [1] * 5
