"""Pods on their way out."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sanfran_common.lifecycle import OwnedTasks
from sanfran_controller.deletions import Deletions
from sanfran_controller.providers.kubernetes.api import ApiError


class Busy:
    """A provider that asks for a pause before it does it."""

    def __init__(self, pause: float) -> None:
        self.asked: list[float] = []
        self._pause = pause

    async def delete(self, name: str) -> None:
        self.asked.append(time.monotonic())
        if len(self.asked) == 1:
            raise ApiError(429, "TooManyRequests", "not now", self._pause)


async def test_a_deletion_is_put_off_for_as_long_as_the_provider_asks() -> None:
    busy, done = Busy(0.5), asyncio.Event()
    async with OwnedTasks("test") as tasks:
        provider: Any = busy
        deletions = Deletions(provider, tasks, lambda name: done.set())
        deletions.begin("pod")
        async with asyncio.timeout(5):
            await done.wait()
    first, second = busy.asked
    assert second - first >= 0.5
