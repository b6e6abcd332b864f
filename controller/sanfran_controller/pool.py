"""How many generic pods there should be. Decides only: facts and `now` in, an action out.

The target is the number of pods that claims will take while one pod starts (Little's law: rate
times time), doubled against chance, and never below the pool's size nor above its maximum. Pods
that start or come back from recycling count as there, so that a burst starts what it lacks and no
more. Surplus is given up only after it lasted, and only as much as lay idle all that time.

All times are seconds of one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp

SAFETY = 2.0
"""Claims come in clumps: with a Poisson rate, twice the mean is rarely exceeded within one start."""
FAST, SLOW = 2.0, 30.0
"""Time constants of the two rates. The fast one sees a spike; the slow one remembers it."""
FIRST_GUESS = 0.5
"""A pod's start time before one was measured."""
START_WEIGHT = 0.3
BACKOFF_FIRST, BACKOFF_MOST = 0.1, 10.0
PROBE_AFTER = 2
"""Failures in a row after which single starts find out whether starts work again."""
RECLAIM_AGAIN = 0.25
RECLAIM_CALMLY = 1.0
"""Until activations are looked through again for one that fell idle: with claims that wait, and
without."""
FULL_FOR = 5.0
"""Somebody else may have made room by then."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What an operator allows.

    Args:
        size: generic pods that are kept even without traffic.
        most: generic pods at most, however fast they are taken.
        pods: pods at most, whatever they do.
        starts_at_once: pods that start at the same time at most; beyond what the cores
            can do, more of them only make each later.
        surplus_after: seconds that pods must lie idle above the target before they go.
    """

    size: int = 4
    most: int = 64
    pods: int = 1000
    starts_at_once: int = 8
    surplus_after: float = 15.0


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """How things stand.

    Args:
        idle: generic pods that can be claimed now.
        arriving: pods that start.
        returning: pods that recycle and will be generic within moments.
        waiting: claims without a pod.
        pods: every pod that exists, whatever it does, also those about to be deleted.
    """

    idle: int
    arriving: int
    returning: int
    waiting: int
    pods: int


@dataclass(frozen=True, slots=True)
class PoolAction:
    """What to do now.

    Args:
        start: pods to start.
        stop: idle generic pods to delete.
        reclaim: idle activations to end, since there may be no further pod.
        target: generic pods wanted.
        why: the reason, for people.
        again_at: decide again at this time, also when nothing happens; None: no need.
    """

    start: int
    stop: int
    reclaim: int
    target: int
    why: str
    again_at: float | None = None


class Rate:
    """Events per second, exponentially forgotten with the time constant `over` (seconds)."""

    __slots__ = ("_at", "_over", "_value")

    def __init__(self, over: float) -> None:
        self._over = over
        self._value = 0.0
        self._at = 0.0

    def count(self, now: float) -> None:
        """One event happened."""
        self._value = self.at(now) + 1 / self._over
        self._at = now

    def at(self, now: float) -> float:
        """Events per second as of now."""
        return self._value * exp(-max(now - self._at, 0.0) / self._over)


class Pool:
    """Remembers rates, start times and failures; `decide` says what to do."""

    def __init__(self, limits: PoolLimits) -> None:
        self.limits = limits
        self.start_time = FIRST_GUESS
        self._fast, self._slow = Rate(FAST), Rate(SLOW)
        self._failures = 0
        self._not_before = 0.0
        self._full_at, self._full_until = 0, 0.0
        self._reclaim_from = 0.0
        self._surplus_since: float | None = None
        self._surplus_least = 0

    def claimed(self, now: float) -> None:
        """Somebody wants a generic pod, whether or not there is one."""
        self._fast.count(now)
        self._slow.count(now)

    def started(self, took: float) -> None:
        """A pod became generic `took` seconds after it was asked for."""
        self.start_time += START_WEIGHT * (took - self.start_time)
        self.provider_back()

    def start_failed(self, now: float) -> None:
        """A pod could not be started: the next start waits, twice as long after each failure.

        Starts fail together when they fail for one reason, so those that fail during a pause
        say nothing new.
        """
        if now < self._not_before:
            return
        pause = min(BACKOFF_FIRST * 2**self._failures, BACKOFF_MOST)
        self._failures = min(self._failures + 1, 16)
        self._not_before = now + pause

    def provider_full(self, pods: int, now: float) -> None:
        """Whoever starts pods has no room for more than `pods`; believed for a while."""
        self._full_at, self._full_until = pods, now + FULL_FOR

    def none_idle(self, now: float) -> None:
        """There were fewer idle activations than `decide` asked for: not worth another look at all of
        them for a moment, however many claims come."""
        self._reclaim_from = now + RECLAIM_AGAIN

    def provider_back(self) -> None:
        """Whoever starts pods can be reached again: no reason to wait any longer."""
        self._failures = 0
        self._not_before = 0.0

    def target(self, now: float) -> int:
        """Generic pods wanted now."""
        rate = max(self._fast.at(now), self._slow.at(now))
        # A remnant of a rate is no reason for a pod: hence not the plain ceiling.
        lead = ceil(rate * self.start_time * SAFETY - 0.05)
        return max(self.limits.size, min(lead, self.limits.most))

    def wants_back(self, facts: PoolFacts, now: float) -> bool:
        """Whether a pod whose activation ends is worth recycling; else it is deleted."""
        coming = facts.idle + facts.arriving + facts.returning
        return coming < self.target(now) + facts.waiting

    def decide(self, facts: PoolFacts, now: float) -> PoolAction:
        """What to do, given how things stand."""
        target = self.target(now)
        coming = facts.idle + facts.arriving + facts.returning
        missing = target + facts.waiting - coming
        if missing >= 0:
            self._surplus_since = None
        if missing > 0:
            return self._fill(facts, now, target, missing)
        if missing < 0:
            return self._shrink(facts, now, target, -missing)
        # A target above the size falls by itself, and nothing else may happen then.
        falls = target > self.limits.size
        again_at = now + self.limits.surplus_after if falls else None
        return PoolAction(0, 0, 0, target, "as wanted", again_at)

    def _fill(self, facts: PoolFacts, now: float, target: int, missing: int) -> PoolAction:
        most = self.limits.pods
        if now < self._full_until:
            most = min(most, self._full_at)
        room = max(most - facts.pods, 0)
        # An activation that nobody uses costs its function one claim when it is called again, and an
        # empty pool costs the next cold function a start. Hence idle ones make room for both.
        without = facts.waiting + min(target, self.limits.size) - (target + facts.waiting - missing)
        reclaim = max(without - room, 0)
        again_at = now + (RECLAIM_AGAIN if facts.waiting else RECLAIM_CALMLY) if reclaim else None
        if reclaim and now < self._reclaim_from:
            reclaim, again_at = 0, self._reclaim_from
        if not room:
            why = f"at the limit of {most} pods"
            return PoolAction(0, 0, reclaim, target, why, again_at)
        if now < self._not_before:
            why = f"{self._failures} starts failed in a row"
            return PoolAction(0, 0, reclaim, target, why, self._not_before)
        at_once = self.limits.starts_at_once if self._failures < PROBE_AFTER else 1
        start = max(min(missing, room, at_once - facts.arriving), 0)
        why = f"{facts.waiting} claims wait" if facts.waiting else f"below the target of {target}"
        return PoolAction(start, 0, reclaim, target, why, again_at)

    def _shrink(self, facts: PoolFacts, now: float, target: int, surplus: int) -> PoolAction:
        if self._surplus_since is None:
            self._surplus_since, self._surplus_least = now, surplus
        self._surplus_least = min(self._surplus_least, surplus)
        until = self._surplus_since + self.limits.surplus_after
        if now < until:
            return PoolAction(0, 0, 0, target, f"{surplus} above the target", until)
        self._surplus_since = None
        stop = min(self._surplus_least, facts.idle)
        why = f"{self._surplus_least} above the target for {self.limits.surplus_after:g} s"
        return PoolAction(0, stop, 0, target, why, now + self.limits.surplus_after)
