"""How activations end: fenced, recycled or deleted, so that no request is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from grpclib import GRPCError
from sanfran_common.lifecycle import OwnedTasks
from sanfran_proto.sanfran import v1 as pb

from sanfran_controller import sidecars
from sanfran_controller.deletions import Deletions
from sanfran_controller.pods import Activation, Pod
from sanfran_controller.states import PodEvent, PodState
from sanfran_controller.stock import Stock

DRAIN_TIMEOUT = 6.0
"""Seconds for one call; a bit more than a sidecar waits for a process whose event loop is held."""
LINGER = 0.1
"""Seconds that the fence tells routers without the news to go elsewhere. What reaches a process that is being
killed (20 ms) is lost, and may have run: without this 3 of 6,500 POSTs failed in 250 updates."""
LOAD_PATIENCE = 1.0
"""Seconds that a pod gets to load what is not wanted any more: as long as requests wait in it (runtime/src/held.js)."""


class End(Protocol):
    """See `Fleet.end`."""

    def __call__(self, pod: Pod, why: str, *, expected: bool = ...) -> None: ...


class Partings:
    """Those that are under way.

    Args:
        stock: counts pods, and knows whether they are wanted back.
        tasks: owns a task for each.
        leaving: pods that are being deleted.
        end: deletes a pod.
        said: takes the last log lines of an activation.
        replace_pods: a pod whose activation ends is deleted, and not made generic again.
        start_timeout: seconds for a fresh process.
    """

    def __init__(
        self,
        stock: Stock,
        tasks: OwnedTasks,
        leaving: Deletions,
        *,
        end: End,
        said: Callable[[Activation, list[pb.LogLine]], None],
        replace_pods: bool,
        start_timeout: float,
    ) -> None:
        self._stock = stock
        self._tasks = tasks
        self._leaving = leaving
        self._end = end
        self._said = said
        self._replace = replace_pods
        self._start_timeout = start_timeout

    def dismiss(self, pod: Pod) -> asyncio.Task[None]:
        """Ends a pod's activation, which no route names any more.

        At once it counts as coming back. Then the fence goes up, running requests get their time, and
        the pod becomes generic again, or is deleted when the pool wants no more.

        Returns:
            A task that ends when the pod refuses new requests, or is dead.
        """
        assert pod.activation is not None, "only an active pod can be dismissed"
        self._stock.step(pod, PodEvent.FENCED)
        if self._replaces(pod):
            self._stock.held_up(pod)
        return self._tasks.spawn(self._fence(pod, pod.activation), name=f"fence {pod.name}")

    def outlast(self, pod: Pod) -> asyncio.Task[None]:
        """Ends a pod that loads what is not wanted any more, unless its load is answered in a moment: requests that
        wait in it begin when it has loaded, and would die with it.

        Returns:
            A task that ends when the load was answered, or the pod is dead.
        """
        return self._tasks.spawn(self._outlast(pod, pod.answered), name=f"outlast {pod.name}")

    async def _outlast(self, pod: Pod, answered: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(LOAD_PATIENCE):
                await answered.wait()
        except TimeoutError:
            if answered.is_set():
                return
            self._end(pod, "replaced while it loaded", expected=True)
            await self._leaving.wait(pod.name)

    def ending(self, pod: Pod) -> asyncio.Task[None]:
        """A task that ends when a pod that was ended is dead."""
        return self._tasks.spawn(self._leaving.wait(pod.name), name=f"await {pod.name}")

    async def fence(self, pod: Pod, activation: Activation) -> None:
        """Has a pod that was found refuse new requests, as far as that can be done; recycling it does the rest."""
        with suppress(GRPCError):
            await sidecars.drain(pod, activation, DRAIN_TIMEOUT)
            await asyncio.sleep(LINGER)

    async def _fence(self, pod: Pod, activation: Activation) -> None:
        try:
            in_flight = await sidecars.drain(pod, activation, DRAIN_TIMEOUT)
        except GRPCError as error:
            self._end(pod, f"not fenced: {error.status.name} {error.message}")
            in_flight = 0
        if pod.state is not PodState.DRAINING:  # lost: then it is dead once it is deleted
            await self._leaving.wait(pod.name)
            return
        if in_flight:
            self._stock.held_up(pod)
        self._tasks.spawn(self._part(pod, activation, in_flight), name=f"part with {pod.name}")

    async def _part(self, pod: Pod, activation: Activation, in_flight: int) -> None:
        await asyncio.sleep(LINGER)
        if pod.state is PodState.DRAINING:
            if in_flight or (self._wanted_back() and not self._replaces(pod)):
                self.recycle(pod, activation)
            else:
                why = "replaced" if self._replaces(pod) else "the pool needs no more"
                self._end(pod, why, expected=True)

    def _replaces(self, pod: Pod) -> bool:
        return self._replace or pod.outdated

    def _wanted_back(self) -> bool:
        """Whether to recycle a pod that is fenced, and hence counted as returning."""
        facts = self._stock.facts(len(self._leaving))
        others = replace(facts, returning=facts.returning - 1)
        return self._stock.pool.wants_back(others, time.monotonic())

    def recycle(self, pod: Pod, activation: Activation) -> None:
        """Makes a pod generic again that no router is told of any more."""
        self._stock.step(pod, PodEvent.RECYCLE)
        if self._replaces(pod):
            self._stock.held_up(pod)
        self._tasks.spawn(self._finish_recycling(pod, activation), name=f"recycle {pod.name}")

    async def _finish_recycling(self, pod: Pod, activation: Activation) -> None:
        try:
            state = await sidecars.recycle(pod, activation, self._start_timeout)
        except GRPCError as error:
            self._end(pod, f"not recycled: {error.status.name} {error.message}")
            return
        self._said(activation, state.last_words)
        if self._replaces(pod):  # the requests that ran have ended
            self._end(pod, "replaced", expected=True)
        if pod.state is PodState.RECYCLING:
            pod.address = state.address
            self._stock.step(pod, PodEvent.RECYCLED)
