"""Looks at every warm function once per second, and acts on what `scaling` decides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from sanfran_common.telemetry.logs import get_logger

from sanfran_controller.activation import Activator
from sanfran_controller.catalog import Catalog
from sanfran_controller.decisions import Decisions
from sanfran_controller.functions import Function, Functions
from sanfran_controller.load import Loads
from sanfran_controller.scaling import Scale, ScalingFacts, ScalingPolicy

log = get_logger("autoscale")

AT_A_TIME = 100
"""Functions between two turns of the event loop, which a tick would hold else for 130 ms with 5,000 that are
busy: about 3 ms on one core."""


class Autoscaler:
    """Keeps each function at as many pods as it needs.

    Args:
        decisions: are told.
        idle_timeout: seconds, for functions that set none.
        elsewhere: whether a function belongs to another controller, which scales it up. Here it only ends.
        unsettled: whether pods are just being adopted, any of which may serve any function.
    """

    def __init__(
        self,
        catalog: Catalog,
        functions: Functions,
        activator: Activator,
        loads: Loads,
        policy: ScalingPolicy,
        decisions: Decisions,
        *,
        idle_timeout: float,
        elsewhere: Callable[[str], bool] = lambda name: False,
        unsettled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._unsettled = unsettled
        self._elsewhere = elsewhere
        self._catalog = catalog
        self._functions = functions
        self._activator = activator
        self._loads = loads
        self._policy = policy
        self._decisions = decisions
        self._idle_timeout = idle_timeout

    async def run(self) -> None:
        """Runs for ever. Functions that were disturbed are looked at without waiting for the tick."""
        disturbed = self._functions.disturbed
        next_tick = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= next_tick:
                # Late by a whole tick, this process stood still. What routers reported waits in its
                # sockets, and silence means nothing: the next tick decides.
                if now < next_tick + self._policy.report_every:
                    await self._tick(now)
                    next_tick = max(next_tick + self._policy.report_every, now)
                else:
                    next_tick = now + self._policy.report_every
            disturbed.clear()
            names, self._functions.bereft = self._functions.bereft, set()
            for name in sorted(names):
                self._look(self._functions.of(name), now)
                self._functions.forget(self._functions.of(name))
            try:
                async with asyncio.timeout(max(next_tick - time.monotonic(), 0.001)):
                    await disturbed.wait()
            except TimeoutError:
                pass

    async def _tick(self, now: float) -> None:
        for router in self._loads.expire(now):
            log.warning("router silent, its load is forgotten", router=router)
        for number, name in enumerate(
            dict.fromkeys((*self._functions.warm, *self._catalog.kept)), 1
        ):
            if name in self._functions.warm or name in self._catalog.kept:  # still
                function = self._functions.of(name)
                function.scaler.observe(self._loads.peak(name), now)
                self._look(function, now)
            if number % AT_A_TIME == 0:
                await asyncio.sleep(0)

    def _look(self, function: Function, now: float) -> None:
        if function.reconciling is not None or self._catalog.get(function.name) is None:
            return
        if self._unsettled():
            return
        settings = self._functions.settings(function.name)
        elsewhere = self._elsewhere(function.name)
        pods, arriving = len(function.serving), len(function.flights)
        facts = ScalingFacts(
            concurrency=max(settings.concurrency, 1),
            min_scale=0 if elsewhere else settings.min_scale,
            max_scale=settings.max_scale,
            idle_timeout=settings.idle_timeout_ms / 1000 or self._idle_timeout,
            pods=pods,
            arriving=arriving,
            demand=self._loads.demand(function.name),
        )
        scale = function.scaler.decide(facts, now)
        if scale.want > pods + arriving:
            if elsewhere:
                return
            before = len(function.flights)
            started = len(self._activator.ensure(function, scale.want)) - before
            if started:
                self._took("scale_up", scale, started, facts, function)
        elif scale.want < pods:
            # The youngest go: what the older ones have compiled and cached is worth more.
            leaving = list(function.serving.values())[scale.want :]
            self._took("scale_down", scale, len(leaving), facts, function)
            self._functions.withdraw(function, leaving)

    def _took(
        self, kind: str, scale: Scale, pods: int, facts: ScalingFacts, function: Function
    ) -> None:
        name = function.name
        self._decisions.took(
            kind, scale.reason, pods, why=scale.why, facts=str(facts), function=name
        )
        log.info("scale", function=name, pods=facts.pods, want=scale.want, why=scale.why)
