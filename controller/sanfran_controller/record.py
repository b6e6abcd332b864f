"""The record of ownership as it is told, and what others wait for in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from sanfran_controller.ownership import Ownership
from sanfran_controller.providers import PodNews, PodsListed

SETTLES_WITHIN = 3.0
"""Seconds; adopting and asking take a tenth of one."""


class Record:
    """Kept by the fleet.

    Args:
        name: of this controller.
    """

    def __init__(self, name: str) -> None:
        self.ownership = Ownership(name)
        self.accounted = asyncio.Event()
        """Set while each pod that may serve is known to a controller that sees to it."""
        self.orphaned = asyncio.Event()
        """Set while there are pods that this controller is to adopt."""
        self.on_live: Callable[[], None] = lambda: None
        """Called when a controller came or went."""
        self._live: tuple[str, ...] = ()
        self._listed = False
        self._unknown: set[str] = set()  # pods of this controller that may serve what is not wanted
        self._unsettled_at: float | None = None

    def take(self, news: PodNews) -> None:
        """The provider tells something."""
        self.ownership.take(news)
        self._listed = self._listed or isinstance(news, PodsListed)
        if self._live != self.ownership.live():
            self._live = self.ownership.live()
            self.on_live()
        self._recount()

    def found(self, pod: str) -> None:
        """A pod is this controller's, and what it does has to be asked."""
        self._unknown.add(pod)
        self._recount()

    def known(self, pod: str) -> None:
        """It does what is wanted, or refuses requests, or is gone."""
        self._unknown.discard(pod)
        self._recount()

    def unsettled(self) -> bool:
        """Whether pods are just being adopted or asked what they run: what functions have is not known then.

        What takes longer than usual is no reason to wait.
        """
        now = time.monotonic()
        return self._unsettled_at is not None and now - self._unsettled_at < SETTLES_WITHIN

    def _recount(self) -> None:
        accounted = self._listed and not self._unknown and not self.ownership.missed()
        if accounted:
            self._unsettled_at = None
        elif self._unsettled_at is None:
            self._unsettled_at = time.monotonic()
        (self.accounted.set if accounted else self.accounted.clear)()
        (self.orphaned.set if self.ownership.orphans() else self.orphaned.clear)()
