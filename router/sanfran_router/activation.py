"""Requests that wait for a pod: cold functions, and warm ones whose pods are all at their limit.

Each function has one queue, bounded and served in order, and at most one question to a controller
on its way. Capacity is handed over in the call that frees it: a waiter is either still in the
queue or holds its endpoint, so one that leaves at that very moment gives it back as any other
request does, and the next waiter gets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic
from typing import Any

from sanfran_router import errors
from sanfran_router.errors import Problem, Refusal
from sanfran_router.function import Endpoint, Function, RouteFacts, Waiter
from sanfran_router.table import Table

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0
"""Seconds between two questions for one function whose answers brought nothing; doubling."""
EARLY_MOST = 100
"""Requests that are sent to a pod while it loads: as many as wait in one. Others it would refuse."""

Ask = Callable[[str, bool, bool, float], Awaitable[RouteFacts]]
"""Name, whether it is for one more pod, whether one that still loads will do, seconds to wait; raises
Refusal."""


class Activator:
    """Owns the queues.

    Args:
        table: gets what controllers answer.
        ask: asks a controller to activate a function.
        spawn: starts a task that the router owns.
        queue_size: waiting requests of one function, at most.
        queue_total: waiting requests of all functions, at most.
        queue_bytes: of the waiting requests' bodies, at most.
        timeout: seconds that one question may take.
    """

    def __init__(
        self,
        table: Table,
        ask: Ask,
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
        *,
        queue_size: int,
        queue_total: int,
        queue_bytes: int,
        timeout: float,
    ) -> None:
        self._table = table
        self._ask = ask
        self._spawn = spawn
        self._queue_size = queue_size
        self._queue_total = queue_total
        self._queue_bytes = queue_bytes
        self._timeout = timeout
        self.waiting = 0
        self.held = 0
        """Bytes of the waiting requests' bodies."""

    def wait(self, function: Function, waiter: Waiter, *, again: bool = False) -> Problem | None:
        """Queues a request; its `assign` or `refuse` is called later, unless it leaves.

        Args:
            again: it had a pod, which turned out not to serve it; it goes to the front, and is
                taken whatever waits: it is in memory already, and was promised a pod.

        Returns:
            Why it cannot be queued, if so.
        """
        held = waiter.held
        if not again and (
            len(function.waiting) >= self._queue_size
            or self.waiting >= self._queue_total
            or self.held + held > self._queue_bytes
        ):
            return errors.QUEUE_FULL
        function.waiting[waiter] = held
        if again:
            function.waiting.move_to_end(waiter, last=False)
        self.waiting += 1
        self.held += held
        load = function.in_flight + len(function.waiting)
        if load > function.traffic.peak:
            function.traffic.peak = load
        self._table.busy.add(function)
        if not function.activating:
            function.activating = True
            self._spawn(self._activate(function), f"activate {function.name}")
        return None

    def leave(self, function: Function, waiter: Waiter) -> None:
        """A waiter gives up. Nothing when it waits no more."""
        held = function.waiting.pop(waiter, None)
        if held is not None:
            self.waiting -= 1
            self.held -= held

    def dispatch(self, function: Function) -> None:
        """Hands free capacity to waiters, in order. To be called whenever there may be some."""
        if function.deleted:
            self._refuse_all(function, errors.NOT_FOUND)
        if function.private:
            self._turn_out(function)
        while function.waiting:
            endpoint = function.pick()
            if endpoint is None:
                return
            waiter, held = function.waiting.popitem(last=False)
            self.waiting -= 1
            self.held -= held
            waiter.assign(endpoint)

    def _refuse_all(self, function: Function, problem: Problem) -> None:
        # Only those that wait now: one that is refused may make room for its client's next request.
        for waiter in list(function.waiting):
            self.leave(function, waiter)
            waiter.refuse(problem)

    def _turn_out(self, function: Function) -> None:
        """Those leave that nobody has allowed to call it: they find out first whether they may."""
        for waiter in [one for one in function.waiting if not one.granted]:
            self.leave(function, waiter)
            waiter.reroute()

    async def _activate(self, function: Function) -> None:
        """Asks until nothing waits."""
        pause = FIRST_PAUSE
        early = True  # once: who still waits then, waits for the pod that has loaded
        try:
            if function.setbacks > 1:
                # What the last questions brought did not work: give the controller time to see it.
                await asyncio.sleep(
                    min(FIRST_PAUSE * 2.0 ** (function.setbacks - 2), LONGEST_PAUSE)
                )
                self.dispatch(function)
            while function.waiting:
                warm = bool(function.endpoints)
                before = len(function.endpoints)
                early = early and not warm and next(iter(function.waiting)).goes_early
                early = await self._ask_once(function, warm=warm, early=early)
                self.dispatch(function)
                if not function.waiting:
                    break
                if early or len(function.endpoints) > before:
                    early = False
                    pause = FIRST_PAUSE  # it helped: one more at once
                    continue
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                self.dispatch(function)
        finally:
            function.activating = False
            self._table.forget_unknown(function)

    async def _ask_once(self, function: Function, *, warm: bool, early: bool) -> bool:
        """Returns whether it was answered early."""
        traffic = function.traffic
        began = monotonic()
        if not warm:
            traffic.activations += 1
        try:
            facts = await self._ask(function.name, warm, early, self._timeout)
        except Refusal as refusal:
            problem = refusal.problem
            traffic.activation_failures += 1
            if problem is errors.NOT_FOUND or not function.endpoints:
                self._refuse_all(function, problem)
            return False  # with pods at work the waiters go on waiting for one of them
        if facts.private and not facts.endpoints:
            self._table.apply(facts, answer=True)
            function.private = True  # whatever an older route says
            self._turn_out(function)
            return False
        if facts.early:
            self._send_early(function, self._table.take_early(facts, began))
            return True
        if not warm:
            traffic.began_cold(monotonic() - began)
        self._table.apply(facts, answer=True)
        return False

    def _send_early(self, function: Function, endpoint: Endpoint | None) -> None:
        """Those that may wait in the pod do so from now on, in order."""
        if endpoint is None:
            return
        most = min(function.concurrency, EARLY_MOST)
        for waiter in [one for one in function.waiting if one.goes_early]:
            if endpoint.in_flight >= most:
                return
            self.leave(function, waiter)
            waiter.assign(endpoint)
