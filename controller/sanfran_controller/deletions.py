"""Pods on their way out: deleted again and again until the provider says that they are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.telemetry.logs import get_logger

from sanfran_controller.providers import PodProvider, ProviderError

log = get_logger("deletions")

AGAIN_FIRST, AGAIN_MOST = 0.1, 2.0


class Deletions:
    """Those that are under way.

    Args:
        provider: deletes.
        tasks: owns a task for each.
        done: called after each.
    """

    def __init__(
        self, provider: PodProvider, tasks: OwnedTasks, done: Callable[[str], object]
    ) -> None:
        self._provider = provider
        self._tasks = tasks
        self._done = done
        self._running: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, name: str) -> bool:
        return name in self._running

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._running))

    def begin(self, name: str) -> None:
        """Deletes a pod; nothing new when that is under way."""
        if name not in self._running:
            self._running[name] = self._tasks.spawn(self._delete(name), name=f"delete {name}")

    def over(self, name: str) -> None:
        """The provider says that the pod is gone, or another controller's."""
        deletion = self._running.pop(name, None)
        if deletion is not None:
            deletion.cancel()

    async def wait(self, name: str) -> None:
        """Returns when the pod is not being deleted any more."""
        deletion = self._running.get(name)
        if deletion is not None:
            await asyncio.wait({deletion})

    async def _delete(self, name: str) -> None:
        pause = AGAIN_FIRST
        while True:
            try:
                await self._provider.delete(name)
                break
            except ProviderError as error:
                log.debug("pod not deleted, trying again", pod=name, why=str(error), pause=pause)
                asked = error.retry_after
            await asyncio.sleep(max(pause, asked))
            pause = min(pause * 2, AGAIN_MOST)
        self._running.pop(name, None)
        self._done(name)
