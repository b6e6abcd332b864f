"""Whose activations end when no further pod may be started."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sanfran_controller.reclaiming import Holder, choose


def idle(name: str, last_used: float, pods: int = 1, keep: int = 0) -> Holder:
    return Holder(name, pods, keep, last_used, idle=True)


def busy(name: str, pods: int, keep: int = 0) -> Holder:
    return Holder(name, pods, keep, 100.0, idle=False)


def test_what_was_unused_for_longest_goes_first() -> None:
    holders = [idle("new", 30), idle("old", 10), idle("older", 5, pods=2), busy("busy", 9)]
    assert choose(holders, 3, from_busy=0, waiting=1) == {"older": 2, "old": 1}


def test_what_stays_without_traffic_stays() -> None:
    assert choose([idle("kept", 1, pods=3, keep=2)], 9, from_busy=0, waiting=0) == {"kept": 1}


def test_a_function_with_requests_gives_nothing_up_while_others_are_idle() -> None:
    assert choose([idle("idle", 1), busy("busy", 50)], 1, from_busy=1, waiting=1) == {"idle": 1}


def test_one_that_has_nearly_everything_gives_some_to_those_that_have_none() -> None:
    holders = [busy("greedy", 56), busy("small", 2)]
    assert choose(holders, 300, from_busy=3, waiting=1) == {"greedy": 3}
    assert choose(holders, 300, from_busy=0, waiting=1) == {}


def test_those_within_their_share_give_nothing() -> None:
    assert choose([busy("a", 2), busy("b", 2)], 5, from_busy=5, waiting=9) == {}


holders = st.builds(
    Holder,
    name=st.uuids().map(str),
    pods=st.integers(1, 60),
    keep=st.integers(0, 5),
    last_used=st.floats(0, 100),
    idle=st.booleans(),
)


@given(st.lists(holders, max_size=12), st.integers(0, 80), st.integers(0, 80), st.integers(0, 9))
def test_never_more_than_was_asked_for_nor_what_is_to_be_kept(
    several: list[Holder], count: int, from_busy: int, waiting: int
) -> None:
    given_up = choose(several, count, from_busy=min(from_busy, count), waiting=waiting)
    assert sum(given_up.values()) <= count
    for holder in several:
        gone = given_up.get(holder.name, 0)
        assert gone == 0 or holder.pods - gone >= holder.keep
        assert holder.idle or not gone or holder.pods - gone >= 1
