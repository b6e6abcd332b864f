"""How many pods one function should have. Decides only: facts and `now` in, a number out.

Demand is what routers report: requests in flight plus queued. Up is decided over a short (panic)
window, down over a long (stable) one: pods are added for the mean of the last seconds, and taken away
only when even the highest demand of the stable window needs fewer. The mean of a part never exceeds
the maximum of the whole, so the two can never pull in opposite directions, and nothing flaps.

All times are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from math import ceil


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """Windows in seconds.

    Args:
        stable: demand this old no longer holds pods.
        panic: demand is averaged over this to add pods.
        report_every: routers report this often; a shorter idle timeout could not be observed.
    """

    stable: float = 30.0
    panic: float = 2.0
    report_every: float = 1.0


@dataclass(frozen=True, slots=True)
class ScalingFacts:
    """What is set for a function, and what it has.

    Args:
        concurrency: requests that one pod runs at once.
        min_scale: pods that stay without traffic.
        max_scale: pods at most; 0: no limit of its own.
        idle_timeout: seconds without traffic until the last pod goes.
        pods: pods that serve it.
        arriving: pods that are being activated for it.
        demand: requests in flight and queued right now, on all routers.
    """

    concurrency: int
    min_scale: int
    max_scale: int
    idle_timeout: float
    pods: int
    arriving: int
    demand: int

    def __str__(self) -> str:
        return (
            f"pods {self.pods}, arriving {self.arriving}, requests {self.demand}, "
            f"concurrency {self.concurrency}"
        )


class ScaleReason(StrEnum):
    """Why a function should have as many pods, for programs."""

    DEMAND = "demand"
    LESS_DEMAND = "less_demand"
    AS_WANTED = "as_wanted"
    IDLE = "idle"
    MIN_SCALE = "min_scale"
    MAX_SCALE = "max_scale"


@dataclass(frozen=True, slots=True)
class Scale:
    """Pods wanted, why in a word, and for people."""

    want: int
    reason: ScaleReason
    why: str


class Scaler:
    """Remembers one function's recent demand; `decide` says how many pods it should have."""

    __slots__ = ("_grown_at", "_had", "_policy", "_samples", "last_used")

    def __init__(self, policy: ScalingPolicy, now: float) -> None:
        self._policy = policy
        self._samples: deque[tuple[float, int]] = deque()  # of demand above zero
        self.last_used = now
        self._had, self._grown_at = 0, now

    def used(self, now: float) -> None:
        """A request came, or a pod was activated because one will."""
        self.last_used = now

    def observe(self, demand: int, now: float) -> None:
        """Takes a sample; expected once per `report_every`.

        Args:
            demand: the highest number in flight plus queued since the last sample.
        """
        samples = self._samples
        while samples and samples[0][0] <= now - self._policy.stable:
            samples.popleft()
        if demand > 0:
            samples.append((now, demand))
            self.last_used = now

    def quiet_for(self, now: float) -> float:
        """Seconds since the function was last used."""
        return now - self.last_used

    def needed(self, concurrency: int, now: float) -> int:
        """Pods that the highest demand of the stable window needs."""
        oldest = now - self._policy.stable
        highest = max((demand for at, demand in self._samples if at > oldest), default=0)
        return ceil(highest / concurrency)

    def decide(self, facts: ScalingFacts, now: float) -> Scale:
        """How many pods the function should have, those arriving included."""
        have = facts.pods + facts.arriving
        if have > self._had:
            self._grown_at = now
        self._had = have
        idle_after = max(facts.idle_timeout, 2 * self._policy.report_every)
        quiet = self.quiet_for(now)
        if facts.demand == 0 and quiet >= idle_after:
            return Scale(facts.min_scale, ScaleReason.IDLE, f"unused for {quiet:.0f} s")
        up = self._panic_need(facts.concurrency, now)
        down = self.needed(facts.concurrency, now)
        want, reason, why = have, ScaleReason.AS_WANTED, "as wanted"
        if up > have:
            over = f"{self._policy.panic:g} s"
            want, reason, why = up, ScaleReason.DEMAND, f"requests of the last {over} need {up}"
        elif down < have and now >= self._grown_at + 2 * self._policy.report_every:
            # Not sooner: routers ask for pods at once, and report a second later what for.
            want, reason = max(down, min(have, 1)), ScaleReason.LESS_DEMAND
            why = f"none of the last {self._policy.stable:g} s needed more than {down}"
        if facts.max_scale and want > facts.max_scale:
            want, reason, why = facts.max_scale, ScaleReason.MAX_SCALE, "max_scale"
        if want < facts.min_scale:
            want, reason, why = facts.min_scale, ScaleReason.MIN_SCALE, "min_scale"
        return Scale(want, reason, why)

    def _panic_need(self, concurrency: int, now: float) -> int:
        oldest = now - self._policy.panic
        recent = 0
        for at, demand in reversed(self._samples):
            if at <= oldest:
                break
            recent += demand
        # Seconds without demand left no sample: divide by how many there should be.
        expected = max(round(self._policy.panic / self._policy.report_every), 1)
        return ceil(recent / expected / concurrency)
