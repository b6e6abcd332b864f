"""Where pods come from. `local` asks a pod host; others fill the same small interface.

A provider creates, deletes and watches; it decides nothing. Which pods are wanted, and what they
do, is the controller's business, and what they do it learns from their sidecars.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod exists, or changed.

    Args:
        name: unique among all pods of all controllers.
        creator: the `--name` of the controller that created it.
        sidecar_address: of its Sidecar service; empty until it is known.
        ready: its sidecar can be called.
    """

    name: str
    creator: str
    sidecar_address: str
    ready: bool


@dataclass(frozen=True, slots=True)
class PodVanished:
    """A pod exists no longer."""

    name: str


@dataclass(frozen=True, slots=True)
class PodsListed:
    """Every pod there is; one that was seen before and is not among them has vanished."""

    pods: tuple[PodSeen, ...]


PodNews = PodsListed | PodSeen | PodVanished


class ProviderError(Exception):
    """The provider could not do it; later it may."""


class ProviderFull(ProviderError):
    """There is no room for another pod, until one is deleted."""


class PodProvider(Protocol):
    """Creates, deletes and watches pods."""

    async def create(self, name: str) -> None:
        """Returns when the pod exists; `watch` tells when it is ready.

        Raises:
            ProviderFull: it was not created.
            ProviderError: it was not created, as far as is known.
        """

    async def delete(self, name: str) -> None:
        """Kills the pod at once. Returns when it can serve nobody any more, or never existed.

        Raises:
            ProviderError: it may still run.
        """

    def watch(self) -> AsyncGenerator[PodNews]:
        """Yields `PodsListed`, then changes, for ever. After a broken connection it connects again by
        itself and yields a new `PodsListed`."""
