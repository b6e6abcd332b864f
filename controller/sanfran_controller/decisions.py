"""What was decided lately, and why: for `sanfran pool`, and counted for Prometheus."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from sanfran_controller import metrics
from sanfran_controller.pool import PoolAction, PoolFacts, PoolReason

KEPT = 100
"""Decisions of each sort: about the pool, and about functions."""
TOGETHER = 1.0
"""Seconds within which the same decision again is one with more pods."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One that was taken.

    Args:
        at: when, in seconds since 1970.
        kind: what: start, stop, reclaim, hold, scale_up or scale_down.
        reason: why, a word for programs.
        pods: how many it is about.
        function: whose; empty: the pool's.
        why: for people.
        facts: how things stood.
    """

    at: float
    kind: str
    reason: str
    pods: int
    function: str
    why: str
    facts: str


class Decisions:
    """The last ones.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._pool: deque[Decision] = deque(maxlen=KEPT)
        self._functions: deque[Decision] = deque(maxlen=KEPT)
        self._held = PoolReason.AS_WANTED

    def latest(self, count: int) -> list[Decision]:
        """The newest, `count` at most, newest first."""
        everything = sorted((*self._pool, *self._functions), key=lambda one: one.at, reverse=True)
        return everything[:count]

    def took(
        self, kind: str, reason: str, pods: int, *, why: str, facts: str, function: str = ""
    ) -> None:
        """A decision was carried out."""
        metrics.DECISIONS.labels(kind, reason).inc(pods)
        among = self._functions if function else self._pool
        decision = Decision(self._clock(), kind, reason, pods, function, why, facts)
        last = among[-1] if among else None
        if (
            last is not None
            and (last.kind, last.reason, last.function) == (kind, reason, function)
            and decision.at - last.at < TOGETHER
        ):
            among[-1] = replace(decision, at=last.at, pods=last.pods + pods)
        else:
            among.append(decision)

    def pool(self, action: PoolAction, facts: PoolFacts, reclaimed: int) -> None:
        """What the pool decided was carried out.

        Args:
            reclaimed: activations that were ended to make room.
        """
        metrics.POOL_TARGET.set(action.target)
        metrics.POOL_READY.set(facts.idle)
        metrics.POOL_STARTING.set(facts.arriving)
        metrics.CLAIMS_WAITING.set(facts.waiting)
        counts = {"start": action.start, "stop": action.stop, "reclaim": reclaimed}
        for kind, pods in counts.items():
            if pods:
                self.took(kind, action.reason, pods, why=action.why, facts=str(facts))
        # That nothing can be done is said once.
        if action.reason is not self._held:
            self._held = action.reason
            if action.reason in (PoolReason.LIMIT, PoolReason.BACKOFF):
                lacks = max(action.target + facts.waiting - facts.coming, 0)
                self.took("hold", action.reason, lacks, why=action.why, facts=str(facts))
