"""Deletes pods, and waits until the cluster says that they are gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from sanfran_controller.providers import ProviderError
from sanfran_controller.providers.kubernetes.api import ApiError, KubeApi
from sanfran_controller.providers.kubernetes.calls import PODS
from sanfran_controller.providers.kubernetes.facts import PodFacts, read
from sanfran_controller.providers.kubernetes.labels import PodTurns

GRACE = 1
"""Seconds that a pod's processes get when it is deleted: what should finish has finished. 0 would remove the object
before the kubelet has killed them."""
END_PATIENCE = 5.0
"""Seconds until a deleted pod should be gone; then its deletion is looked at again."""
FORCE_AFTER = 30.0
"""Seconds of a deletion, beyond what its processes get, after which the object is removed without the kubelet: its
node cannot be reached."""
CAS_ATTEMPTS = 4
"""A pod's status changes its version as well; so often in a row it does not."""


class Endings:
    """Those that are under way.

    Args:
        api: of the namespace.
        turns: of all that write to pods.
        find: facts of a pod that is there.
        owner: name and process of the controller whose pods may be deleted.
    """

    def __init__(
        self,
        api: KubeApi,
        turns: PodTurns,
        find: Callable[[str], PodFacts | None],
        owner: tuple[str, str],
    ) -> None:
        self._api = api
        self._turns = turns
        self._find = find
        self._owner = owner
        self._running: dict[str, tuple[float, asyncio.Event]] = {}

    async def end(self, name: str) -> None:
        """See `PodProvider.delete`."""
        began, gone = self._running.setdefault(name, (time.monotonic(), asyncio.Event()))
        try:
            async with self._turns.turn(name):
                if not await self._order(name, time.monotonic() - began):
                    self._running.pop(name, None)
                    return
            async with asyncio.timeout(END_PATIENCE):
                await gone.wait()
        except TimeoutError as error:
            raise ProviderError(f"pod {name} is still being terminated") from error

    def over(self, name: str) -> None:
        """It is gone."""
        running = self._running.pop(name, None)
        if running is not None:
            running[1].set()

    async def _order(self, name: str, since: float) -> bool:
        """Deletes a pod if it is this process's.

        Returns:
            Whether its end is to be waited for.
        """
        facts = self._find(name)
        for _ in range(CAS_ATTEMPTS):
            if facts is not None and (facts.owner, facts.process) != self._owner:
                return False
            forced = since > FORCE_AFTER + (facts.grace if facts is not None else 0)
            if facts is not None and facts.terminating and not forced:
                return True  # somebody deleted it, and what runs in it may finish
            try:
                await self._api.delete(
                    PODS,
                    name,
                    grace=0 if forced else GRACE,
                    only_if={"uid": facts.uid, "resourceVersion": facts.version}
                    if facts is not None
                    else None,
                )
                return facts is not None
            except ApiError as error:
                if error.status == 404:
                    return False
                if error.status != 409:
                    raise
            try:
                facts = read(await self._api.get(PODS, name), facts)
            except ApiError as error:
                if error.status == 404:
                    return False
                raise
        raise ProviderError(f"pod {name} changes all the time")
