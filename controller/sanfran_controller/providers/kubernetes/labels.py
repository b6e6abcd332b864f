"""Writes on pods what they run, soon after they do: for people, and for nothing else.

Each pod's newest state is written, whatever came between; all writes of one pod go in order (see `PodTurns`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from sanfran_common.lifecycle import TaskOwner
from sanfran_common.telemetry.logs import get_logger

from sanfran_controller.providers.kubernetes.api import ApiError, KubeApi
from sanfran_controller.providers.kubernetes.calls import PODS
from sanfran_controller.providers.kubernetes.facts import FUNCTION, VERSION, PodFacts

log = get_logger("kubernetes")

SOON = 0.25
"""Seconds from a change to its write: a pod that is recycled in between is written once."""
AGAIN = 2.0
AT_ONCE = 16
"""Writes under way: at 5 ms each, 3,000 per second."""


class PodTurns:
    """One write at a time for each pod, in the order of asking."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = {}

    @asynccontextmanager
    async def turn(self, pod: str) -> AsyncGenerator[None]:
        """The pod is this caller's to write to."""
        lock = self._locks.setdefault(pod, asyncio.Lock())
        self._waiting[pod] = self._waiting.get(pod, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._waiting[pod] -= 1
            if not self._waiting[pod]:
                del self._waiting[pod], self._locks[pod]


class Labels(TaskOwner):
    """Writes them while its `async with` lasts.

    Args:
        api: of the namespace.
        turns: of all that write to pods.
        mine: facts of a pod, if it is there and this process's own.
    """

    def __init__(
        self,
        api: KubeApi,
        turns: PodTurns,
        mine: Callable[[str], PodFacts | None],
    ) -> None:
        super().__init__("labels")
        self._api = api
        self._turns = turns
        self._mine = mine
        self._wanted: dict[str, tuple[str, str]] = {}
        # Newer than what the watch has told; None: a write has failed, and may have been carried out.
        self._written: dict[str, tuple[str, str] | None] = {}
        self._writing: set[str] = set()
        self._places = asyncio.Semaphore(AT_ONCE)

    def want(self, pod: str, function: str, version: str) -> None:
        """The pod runs that now; empty: nothing."""
        self._wanted[pod] = (function, version)
        if pod not in self._writing:
            self._writing.add(pod)
            self._tasks.spawn(self._write(pod), name=f"label {pod}")

    def forget(self, pod: str) -> None:
        """It is gone, or has changed hands."""
        self._wanted.pop(pod, None)
        self._written.pop(pod, None)

    async def _write(self, pod: str) -> None:
        pause = SOON
        while pod in self._wanted:
            await asyncio.sleep(pause)
            async with self._turns.turn(pod), self._places:
                wanted, facts = self._wanted.get(pod), self._mine(pod)
                if wanted is None or facts is None:
                    break
                known = self._written.get(pod, (facts.function, facts.function_version))
                try:
                    if wanted != known:
                        await self._api.patch(PODS, pod, _patch(facts.uid, *wanted))
                        self._written[pod] = wanted
                except ApiError as error:
                    log.debug("labels not written", pod=pod, why=str(error))
                    self._written[pod] = None
                    if error.status in (404, 409):  # gone, or another pod of that name
                        break
                    pause = max(AGAIN, error.retry_after)
                    continue
            pause = SOON
            if self._wanted.get(pod) == wanted:
                break
        self._wanted.pop(pod, None)
        self._writing.discard(pod)


def _patch(uid: str, function: str, version: str) -> dict[str, object]:
    labels = {FUNCTION: function or None, VERSION: version or None}
    return {"metadata": {"uid": uid, "labels": labels}}
