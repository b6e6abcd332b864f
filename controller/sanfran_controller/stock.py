"""The generic pods, and the claims that wait for one."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable

from sanfran_controller import metrics
from sanfran_controller.claims import ClaimQueue, ClaimsFull
from sanfran_controller.errors import ActivationError, NoCapacity
from sanfran_controller.pods import Pod
from sanfran_controller.pool import Pool, PoolFacts
from sanfran_controller.states import PodEvent, PodState, advance


class ClaimDropped(Exception):
    """The claim's function went away or changed while it waited."""


class Stock:
    """Hands generic pods to claims, in memory, and counts.

    Args:
        pool: is told of every claim.
        claims_most: claims that may wait; one more is `NoCapacity`.
    """

    def __init__(self, pool: Pool, *, claims_most: int) -> None:
        self.changed = asyncio.Event()  # the pool should be looked at again
        self.filled = asyncio.Event()  # there was a generic pod once
        self.pool = pool
        self._idle: deque[Pod] = deque()
        self._claims: ClaimQueue[asyncio.Future[Pod]] = ClaimQueue(claims_most)
        self._counts: Counter[PodState] = Counter()
        self._returning = 0
        self._asked: dict[str, float] = {}  # pods that start, by when they were asked for
        self._stuck: dict[str, str] = {}  # pods that start, for which there is no room
        self.on_step: Callable[[Pod], None] = lambda pod: None
        """Called with each pod that moved along its table."""

    @property
    def waiting(self) -> int:
        """Claims that wait."""
        return len(self._claims)

    @property
    def idle(self) -> int:
        """Pods that can be claimed."""
        return len(self._idle)

    @property
    def cold(self) -> int:
        """Functions without a pod that wait for one."""
        return self._claims.cold

    def count(self, state: PodState) -> int:
        """Pods in a state."""
        return self._counts[state]

    def facts(self, leaving: int) -> PoolFacts:
        """How things stand.

        Args:
            leaving: pods that are being deleted.
        """
        counts = self._counts
        everything = sum(counts.values()) - counts[PodState.GONE]
        overdue, overdue_at = self._overdue()
        return PoolFacts(
            idle=len(self._idle),
            arriving=counts[PodState.STARTING],
            returning=self._returning,
            waiting=len(self._claims),
            pods=everything + leaving,
            overdue=overdue,
            overdue_at=overdue_at,
            cold=self._claims.cold,
            ending=counts[PodState.DRAINING] + counts[PodState.RECYCLING] - self._returning,
        )

    def _overdue(self) -> tuple[int, float | None]:
        """Pods that should have started by now, and when the next one should."""
        after, now = self.pool.overdue_after, time.monotonic()
        overdue = len(self._stuck)
        for name, asked_at in self._asked.items():
            if now < asked_at + after:
                return overdue, asked_at + after
            overdue += name not in self._stuck
        return overdue, None

    def stuck(self, pod: Pod, why: str) -> None:
        """There is no room for a pod that starts; with no reason: there is."""
        if why and pod.name in self._asked:
            self._stuck[pod.name] = why
        else:
            self._stuck.pop(pod.name, None)

    @property
    def no_room(self) -> str:
        """Why there is no room for one of the pods that start; empty: there seems to be."""
        return next(iter(self._stuck.values()), "")

    def enter(self, pod: Pod) -> None:
        """A new pod, still starting."""
        self._counts[pod.state] += 1
        if pod.asked_at is not None:
            self._asked[pod.name] = pod.asked_at
        metrics.PODS.labels(pod.state.value).inc()
        self.changed.set()

    def step(self, pod: Pod, event: PodEvent) -> None:
        """Moves a pod along its state table, and keeps the counts and the idle ones right."""
        before, after = pod.state, advance(pod.state, event)
        self._returning += self._counts_as_returning(pod, after)
        self._returning -= self._counts_as_returning(pod, before)
        pod.state = after
        self._counts[before] -= 1
        metrics.PODS.labels(before.value).dec()
        if after is not PodState.GONE:
            self._counts[after] += 1
            metrics.PODS.labels(after.value).inc()
        if before is PodState.STARTING:
            self._asked.pop(pod.name, None)
            self._stuck.pop(pod.name, None)
            pod.resolved.set()
        if before is PodState.GENERIC and event is not PodEvent.CLAIMED:
            self._idle.remove(pod)
        if after is PodState.GENERIC:
            pod.activation = None
            pod.brief = True
            self.filled.set()
            # One given back was about to be used, so its turn is first.
            released = event is PodEvent.RELEASED
            if released:
                self.pool.released(time.monotonic())
            (self._idle.appendleft if released else self._idle.append)(pod)
            self._hand_out()
        self.on_step(pod)
        self.changed.set()

    def held_up(self, pod: Pod) -> None:
        """Requests still run in a fenced pod: nobody should wait for it to come back."""
        self._returning -= self._counts_as_returning(pod, pod.state)
        pod.brief = False
        self.changed.set()

    def outdated(self) -> Pod | None:
        """The generic pod that was made from another template and has been idle for longest."""
        return next((pod for pod in self._idle if pod.outdated), None)

    def oldest_idle(self, count: int) -> list[Pod]:
        """The pods that have been idle for longest, `count` at most."""
        return [self._idle[i] for i in range(min(count, len(self._idle)))]

    async def claim(self, function: str, *, growth: bool) -> Pod:
        """Takes a generic pod for a function; waits for one when there is none.

        The caller sets the deadline, and moves the pod on or gives it back (`PodEvent.RELEASED`).
        A claim that is cancelled in the moment its pod arrives passes the pod on.

        Args:
            function: its name; functions take turns.
            growth: the function has pods, and wants one more.

        Raises:
            NoCapacity: too many claims wait, or see `refuse_claims`.
            ClaimDropped: see `drop_claims`.
        """
        now = time.monotonic()
        self.pool.claimed(now)
        turn: asyncio.Future[Pod] = asyncio.get_running_loop().create_future()
        try:
            self._claims.add(function, turn, growth=growth)
        except ClaimsFull as error:
            raise NoCapacity(str(error)) from error
        self._hand_out()
        if not turn.done():
            metrics.POOL_MISSES.labels("growth" if growth else "cold").inc()
        self.changed.set()
        try:
            return await turn
        except asyncio.CancelledError:
            self._claims.discard(function, turn)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                pod = turn.result()
                if pod.state is PodState.ACTIVATING:
                    self.step(pod, PodEvent.RELEASED)
            self.changed.set()
            raise

    def drop_claims(self, function: str) -> None:
        """Ends the waiting of a function's claims with `ClaimDropped`."""
        self._refuse(self._claims.drop(function), ClaimDropped(function))

    def refuse_claims(self, why: ActivationError) -> None:
        """Ends the waiting of all claims."""
        self._refuse(self._claims.drop_all(), why)

    def _refuse(self, turns: list[asyncio.Future[Pod]], why: Exception) -> None:
        for turn in turns:
            if not turn.done():
                turn.set_exception(why)
        self.changed.set()

    def _hand_out(self) -> None:
        while self._idle:
            # Growth leaves half of the pool to functions that have no pod at all.
            spare = len(self._idle) > self.pool.limits.size // 2
            turn = self._claims.take(growth=spare)
            if turn is None:
                return
            if turn.done():  # cancelled in this very tick
                continue
            pod = self._idle.popleft()
            self.step(pod, PodEvent.CLAIMED)
            turn.set_result(pod)

    @staticmethod
    def _counts_as_returning(pod: Pod, state: PodState) -> int:
        return int(pod.brief and state in (PodState.DRAINING, PodState.RECYCLING))
