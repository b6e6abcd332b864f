"""How many generic pods there should be. Decides only: facts and `now` in, an action out.

The target is the number of pods that claims will take while one pod starts (Little's law: rate
times time), with what chance may add to it, and never below the pool's size nor above its maximum. Pods
that start or come back from recycling count as there, so that a burst starts what it lacks and no
more; one that takes far longer than others did does not, so that nobody waits for what may never come.
Surplus is given up only after it lasted, and only as much as lay idle all that time. So are idle pods
that others lack room for.

All times are seconds of one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import ceil, exp, sqrt

SAFETY = 3.0
"""Standard deviations of a Poisson count above its mean, which is exceeded once in 500 starts or so."""
SLOW = 30.0
"""Time constant of the rate that remembers."""
SPAN = 1.0
"""Seconds over which claims are counted to see a rate that has begun: see `Sustained`."""
OVERDUE_TIMES, OVERDUE_LEAST = 4.0, 1.0
"""A start that takes this many times as long as others did, and at least so many seconds, is not relied
upon. Where one start in five hangs, the 99th percentile of waits was a whole activation timeout without it."""
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
    """What an operator allows, and what is known of where pods come from.

    Args:
        size: generic pods that are kept even without traffic.
        most: generic pods at most, however fast they are taken.
        pods: pods at most, whatever they do.
        excess: pods that are there although other controllers, which have fewer than their part, may start none for
            them: idle ones are to go.
        starts_at_once: pods that start at the same time at most; beyond what the cores
            can do, more of them only make each later.
        surplus_after: seconds that pods must lie idle above the target, or in `excess`, before they go.
        first_guess: seconds that a pod takes to start, as long as none was seen to.
        overdue_least: seconds that a start may take in any case.
        recycling_is_faster: a pod that is made generic again is there long before one that starts.
    """

    size: int = 4
    most: int = 64
    pods: int = 1000
    excess: int = 0
    starts_at_once: int = 8
    surplus_after: float = 15.0
    first_guess: float = FIRST_GUESS
    overdue_least: float = OVERDUE_LEAST
    recycling_is_faster: bool = False


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """How things stand.

    Args:
        idle: generic pods that can be claimed now.
        arriving: pods that start.
        returning: pods that recycle and will be generic within moments.
        waiting: claims without a pod.
        pods: every pod that exists, whatever it does, also those about to be deleted.
        overdue: of those arriving, the ones asked for longer than `Pool.overdue_after` ago.
        overdue_at: when the next one will be; None: none of them arrives.
        cold: functions without a pod among those that wait.
        ending: pods that will come back when the requests in them are done.
    """

    idle: int
    arriving: int
    returning: int
    waiting: int
    pods: int
    overdue: int = 0
    overdue_at: float | None = None
    cold: int = 0
    ending: int = 0

    @property
    def coming(self) -> int:
        """Pods that can be claimed now or in moments."""
        return self.idle + self.arriving - self.overdue + self.returning

    def __str__(self) -> str:
        late = f" ({self.overdue} overdue)" if self.overdue else ""
        return (
            f"idle {self.idle}, starting {self.arriving}{late}, returning {self.returning}, "
            f"claims {self.waiting}, pods {self.pods}"
        )


class PoolReason(StrEnum):
    """Why the pool does what it does, for programs."""

    CLAIMS_WAIT = "claims_wait"
    BELOW_TARGET = "below_target"
    AS_WANTED = "as_wanted"
    COOLING = "cooling"  # a surplus that has not lasted yet
    SURPLUS = "surplus"
    LIMIT = "limit"  # no further pod may be started
    BACKOFF = "backoff"  # starts have failed


@dataclass(frozen=True, slots=True)
class PoolAction:
    """What to do now.

    Args:
        start: pods to start.
        stop: idle generic pods to delete.
        reclaim: idle activations to end, since there may be no further pod.
        from_busy: of these, as many may have requests, if their function holds more than its share.
        target: generic pods wanted.
        reason: why, for programs.
        why: the same for people, with numbers.
        again_at: decide again at this time, also when nothing happens; None: no need.
    """

    start: int
    stop: int
    reclaim: int
    target: int
    reason: PoolReason
    why: str
    again_at: float | None = None
    from_busy: int = 0


class Rate:
    """Events per second, exponentially forgotten with the time constant `over` (seconds)."""

    __slots__ = ("_at", "_over", "_value")

    def __init__(self, over: float) -> None:
        self._over = over
        self._value = 0.0
        self._at = 0.0

    def count(self, now: float, events: int = 1) -> None:
        """So many events happened; fewer than none did not happen after all."""
        self._value = max(self.at(now) + events / self._over, 0.0)
        self._at = now

    def at(self, now: float) -> float:
        """Events per second as of now."""
        return self._value * exp(-max(now - self._at, 0.0) / self._over)


class Sustained:
    """Events per second that have lasted: the second highest count of the last three spans.

    A burst is in one of them, and tells nothing of what comes after it; a rate that has begun is in two.
    """

    __slots__ = ("_began", "_counts")

    def __init__(self) -> None:
        self._began = 0.0
        self._counts: tuple[int, ...] = (
            0,
            0,
            0,
        )  # of the newest span, which is not over, and before

    def count(self, now: float, events: int = 1) -> None:
        """See `Rate.count`."""
        self._roll(now)
        newest, *others = self._counts
        self._counts = (max(newest + events, 0), *others)

    def at(self, now: float) -> float:
        """Events per second as of now."""
        self._roll(now)
        return sorted(self._counts)[1] / SPAN

    def _roll(self, now: float) -> None:
        passed = int(max(now - self._began, 0.0) / SPAN)
        if passed:
            self._counts = ((0,) * min(passed, 3) + self._counts)[:3]
            self._began += passed * SPAN


class Pool:
    """Remembers rates, start times and failures; `decide` says what to do."""

    def __init__(self, limits: PoolLimits) -> None:
        self.limits = limits
        self.start_time = limits.first_guess
        self._now, self._lately = Sustained(), Rate(SLOW)
        self._failures = 0
        self._failed_why = ""
        self._not_before = 0.0
        self._worked_at = 0.0  # a start, at last
        self._full_at, self._full_until, self._full_why = 0, 0.0, ""
        self._reclaim_from = 0.0
        self._surplus_since: float | None = None
        self._surplus_least = 0

    def claimed(self, now: float) -> None:
        """Somebody wants a generic pod, whether or not there is one."""
        self._now.count(now)
        self._lately.count(now)

    def released(self, now: float) -> None:
        """A pod that was claimed was given back unused."""
        self._now.count(now, -1)
        self._lately.count(now, -1)

    def started(self, took: float, now: float) -> None:
        """A pod became generic `took` seconds after it was asked for."""
        self.start_time += START_WEIGHT * (took - self.start_time)
        self._worked_at = now
        self.provider_back()

    def start_failed(self, now: float, asked_at: float, why: str = "") -> None:
        """A pod could not be started: the next start waits, twice as long after each failure.

        Starts fail together when they fail for one reason, so those that fail during a pause
        say nothing new; nor does one that hung while others came.

        Args:
            asked_at: when it was asked for.
            why: for people.
        """
        if now < self._not_before or asked_at < self._worked_at:
            return
        pause = min(BACKOFF_FIRST * 2**self._failures, BACKOFF_MOST)
        self._failures = min(self._failures + 1, 16)
        self._failed_why = why
        self._not_before = now + pause

    def provider_full(self, pods: int, now: float, why: str = "") -> None:
        """Whoever starts pods has no room for more than `pods`; believed for a while.

        Args:
            why: in the provider's words.
        """
        self._full_at, self._full_until, self._full_why = pods, now + FULL_FOR, why

    def none_idle(self, now: float) -> None:
        """There were fewer idle activations than `decide` asked for: not worth another look at all of
        them for a moment, however many claims come."""
        self._reclaim_from = now + RECLAIM_AGAIN

    def provider_back(self) -> None:
        """Whoever starts pods can be reached again: no reason to wait any longer."""
        self._failures = 0
        self._not_before = 0.0

    @property
    def failing(self) -> bool:
        """Whether the last start failed."""
        return self._failures > 0

    @property
    def overdue_after(self) -> float:
        """Seconds after which a start is not relied upon any more."""
        return max(self.limits.overdue_least, OVERDUE_TIMES * self.start_time)

    @property
    def reserve(self) -> int:
        """Generic pods that functions which have pods leave to those that have none."""
        return self.limits.size // 2

    def rate(self, now: float) -> float:
        """Claims per second that are to be expected."""
        return max(self._now.at(now), self._lately.at(now))

    def target(self, now: float) -> int:
        """Generic pods wanted now."""
        taken = self.rate(now) * self.start_time
        # A remnant of a rate is no reason for a pod: hence not the plain ceiling.
        lead = ceil(taken + SAFETY * sqrt(taken) - 0.5)
        return max(self.limits.size, min(lead, self.limits.most))

    def wants_back(self, facts: PoolFacts, now: float) -> bool:
        """Whether a pod whose activation ends is worth recycling; else it is deleted.

        Where that is faster than a start, those that start do not count, and claims do that will probably take
        it before it goes as a surplus: else each claim would cost a start, and each end of an activation
        a deletion.
        """
        wanted = self.target(now) + facts.waiting
        if not self.limits.recycling_is_faster:
            return facts.coming < wanted
        return facts.idle + facts.returning < wanted + self.rate(now) * self.limits.surplus_after

    def room(self, facts: PoolFacts, now: float) -> int:
        """Pods that may be there besides those that are."""
        return max(self._most(now) - facts.pods, 0)

    def _most(self, now: float) -> int:
        full = now < self._full_until
        return min(self.limits.pods, self._full_at) if full else self.limits.pods

    def decide(self, facts: PoolFacts, now: float) -> PoolAction:
        """What to do, given how things stand."""
        target = self.target(now)
        missing = target + facts.waiting - facts.coming
        surplus, above = -missing, f"the target of {target}"
        if not facts.waiting:
            excess = min(self.limits.excess, facts.idle)
            if excess > max(surplus, 0):
                surplus, above = excess, f"this controller's part of {self.limits.pods} pods"
        if surplus > 0:
            return self._shrink(facts, now, target, surplus, above)
        self._surplus_since = None
        if missing > 0:
            return self._fill(facts, now, target, missing)
        # A target above the size falls by itself, and nothing else may happen then.
        falls = target > self.limits.size
        again_at = now + self.limits.surplus_after if falls else None
        again_at = _first(again_at, facts.overdue_at)
        return PoolAction(0, 0, 0, target, PoolReason.AS_WANTED, "as wanted", again_at)

    def _fill(self, facts: PoolFacts, now: float, target: int, missing: int) -> PoolAction:
        most, room = self._most(now), self.room(facts, now)
        # An activation that nobody uses costs its function one claim when it is called again, and an
        # empty pool costs the next cold function a start. Hence idle ones make room for both.
        without = facts.waiting + min(target, self.limits.size) - facts.coming
        reclaim = max(without - room, 0)
        again_at = now + (RECLAIM_AGAIN if facts.waiting else RECLAIM_CALMLY) if reclaim else None
        if reclaim and now < self._reclaim_from:
            reclaim, again_at = 0, self._reclaim_from
        again_at = _first(again_at, facts.overdue_at)
        if not room:
            why = f"at the limit of {most} pods"
            if most < self.limits.pods:
                why += f": {self._full_why}"
            # Only for functions that have no pod, or come next: else who is busy would make room for itself.
            first = facts.cold + self.reserve - facts.coming - facts.ending
            from_busy = max(min(first, reclaim), 0)
            reason = PoolReason.LIMIT
            return PoolAction(0, 0, reclaim, target, reason, why, again_at, from_busy)
        if now < self._not_before:
            why = f"{self._failures} starts failed in a row" + (
                f": {self._failed_why}" if self._failed_why else ""
            )
            again_at = _first(again_at, self._not_before)
            return PoolAction(0, 0, reclaim, target, PoolReason.BACKOFF, why, again_at)
        at_once = self.limits.starts_at_once if self._failures < PROBE_AFTER else 1
        # Those that hang may take as many places again, so that a few cannot block the rest.
        under_way = facts.arriving - min(facts.overdue, self.limits.starts_at_once)
        start = max(min(missing, room, at_once - under_way), 0)
        if facts.waiting:
            reason, why = PoolReason.CLAIMS_WAIT, f"{facts.waiting} claims wait"
        else:
            reason, why = PoolReason.BELOW_TARGET, f"below the target of {target}"
        return PoolAction(start, 0, reclaim, target, reason, why, again_at)

    def _shrink(
        self, facts: PoolFacts, now: float, target: int, surplus: int, above: str
    ) -> PoolAction:
        if self._surplus_since is None:
            self._surplus_since, self._surplus_least = now, surplus
        self._surplus_least = min(self._surplus_least, surplus)
        until = self._surplus_since + self.limits.surplus_after
        if now < until:
            why = f"{surplus} above {above}"
            again_at = _first(until, facts.overdue_at)
            return PoolAction(0, 0, 0, target, PoolReason.COOLING, why, again_at)
        self._surplus_since = None
        stop = min(self._surplus_least, facts.idle)
        why = f"{self._surplus_least} above {above} for {self.limits.surplus_after:g} s"
        again_at = now + self.limits.surplus_after
        return PoolAction(0, stop, 0, target, PoolReason.SURPLUS, why, again_at)


def _first(*times: float | None) -> float | None:
    """The earliest of those that are a time."""
    return min((time for time in times if time is not None), default=None)
