"""Whose activations end to make room, when no further pod may be started. Decides only.

Idle ones go first, those unused for longest before others, and never one with requests. Where that is
not enough for functions that have no pod at all, those that hold more than their share of all pods
give some up: routers send them nothing new, and what runs in them finishes first. Else one busy function
that has all pods would keep every other one from its first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

GREEDY = 2
"""Shares that a busy function may hold. Where many have two pods for a moment, none is to blame."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A function that has pods.

    Args:
        pods: that serve it.
        keep: that it keeps in any case.
        last_used: when, in seconds of one monotonic clock.
        idle: nothing runs in it or waits for it, and has not for a while.
    """

    name: str
    pods: int
    keep: int
    last_used: float
    idle: bool


def choose(
    holders: Iterable[Holder], count: int, *, from_busy: int, waiting: int
) -> dict[str, int]:
    """How many pods each function is to give up.

    Args:
        count: pods wanted.
        from_busy: of these, as many may come from functions that have requests.
        waiting: functions that wait for their first pod; each has a share too.
    """
    everybody = list(holders)
    given: dict[str, int] = {}
    for holder in sorted(everybody, key=lambda one: one.last_used):
        spare = min(holder.pods - holder.keep, count) if holder.idle else 0
        if spare > 0:
            given[holder.name] = spare
            count -= spare
            from_busy -= spare
    if from_busy <= 0 or not everybody:
        return given
    share = GREEDY * max(sum(one.pods for one in everybody) // (len(everybody) + waiting), 1)
    for holder in sorted(everybody, key=lambda one: -one.pods):
        spare = min(holder.pods - max(holder.keep, share), from_busy)
        if spare > 0 and not holder.idle:
            given[holder.name] = spare
            from_busy -= spare
    return given
