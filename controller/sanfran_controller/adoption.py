"""Says that this controller lives, and adopts the pods of those that do so no more."""

from __future__ import annotations

import asyncio

from sanfran_common.lifecycle import TaskOwner
from sanfran_common.telemetry.logs import get_logger

from sanfran_controller import metrics
from sanfran_controller.providers import NameHeld, PodProvider, PodSeen, ProviderError
from sanfran_controller.record import Record

log = get_logger("adoption")

RENEW_EVERY = 1.0
"""Seconds; a fifth of the lease, so that a few may be lost."""
NAME_AGAIN = 0.2
"""Seconds until the name is tried again, which a process that was killed may seem to hold for a moment."""
ADOPT_AGAIN = 0.5
ADOPT_AT_ONCE = 16


class Replaced(RuntimeError):
    """Another process has this controller's name and its pods: this one must end."""


class Adoption(TaskOwner):
    """Runs while its `async with` lasts.

    Args:
        provider: keeps the record.
        record: knows which pods are orphans.
    """

    def __init__(self, provider: PodProvider, record: Record) -> None:
        super().__init__("adoption")
        self._provider = provider
        self._record = record
        self._address = ""
        self._renew_now = asyncio.Event()

    async def acquire(self) -> None:
        """Returns when this process holds the lease of its name, and renews it from then on."""
        while True:
            try:
                await self._provider.renew(self._address)
                break
            except NameHeld as error:
                log.warning("the name is in use, waiting for it", why=str(error))
            except ProviderError as error:
                log.debug("no lease yet", why=str(error))
            await asyncio.sleep(NAME_AGAIN)
        self._tasks.loop(self._renew(), name="renew the lease")
        self._tasks.loop(self._adopt(), name="adopt")

    def serves(self, address: str) -> None:
        """Calls are taken at this address from now on."""
        self._address = address
        self._renew_now.set()

    async def _renew(self) -> None:
        while True:
            try:
                async with asyncio.timeout(RENEW_EVERY):
                    await self._renew_now.wait()
            except TimeoutError:
                pass
            self._renew_now.clear()
            try:
                await self._provider.renew(self._address)
            except NameHeld as error:
                raise Replaced(str(error)) from error
            except ProviderError as error:
                # What it owns it goes on with: nobody else takes it without the record either.
                log.debug("lease not renewed", why=str(error))

    async def _adopt(self) -> None:
        while True:
            await self._record.orphaned.wait()
            places = asyncio.Semaphore(ADOPT_AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for pod in self._record.ownership.orphans():
                    group.create_task(self._adopt_one(pod, places), name=f"adopt {pod.name}")
            # The news of it may still be on its way.
            await asyncio.sleep(ADOPT_AGAIN)

    async def _adopt_one(self, pod: PodSeen, places: asyncio.Semaphore) -> None:
        async with places:
            try:
                await self._provider.adopt(pod)
            except ProviderError as error:
                log.debug("not adopted", pod=pod.name, why=str(error))
            else:
                metrics.ADOPTED.inc()
                log.info("adopted", pod=pod.name, of=pod.owner)
