"""Where pods come from. `local` asks a pod host, `kubernetes` an API server; both fill the same small interface.

A provider creates, deletes and watches, and keeps the record of ownership: which controllers live, and
whose each pod is. It decides nothing. Which pods are wanted, and what they do, is the controller's
business, and what they do it learns from their sidecars.
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
        owner: the `--name` of the controller whose it is.
        sidecar_address: of its Sidecar service; empty until it is known.
        ready: its sidecar can be called.
        term: grows with every change of the owner, also to another process of the same name. Its
            sidecar refuses whoever calls with an older one.
        lost: why it serves no more, or soon will not, though it exists still; empty: it does.
        stuck: why there is no room for it; empty: nothing known.
        waits: what keeps it from becoming ready, if that is not usual.
        outdated: new ones are made from another template.
    """

    name: str
    owner: str
    sidecar_address: str
    ready: bool
    term: int = 0
    lost: str = ""
    stuck: str = ""
    waits: str = ""
    outdated: bool = False


@dataclass(frozen=True, slots=True)
class PodVanished:
    """A pod exists no longer."""

    name: str


@dataclass(frozen=True, slots=True)
class PodsListed:
    """Every pod there is; one that was seen before and is not among them has vanished."""

    pods: tuple[PodSeen, ...]


@dataclass(frozen=True, slots=True)
class ControllerSeen:
    """A controller lives.

    Args:
        name: its `--name`.
        address: where it is called; empty: nowhere yet.
        watches: its process is connected. One that has died is not, while its lease still runs.
    """

    name: str
    address: str
    watches: bool = True


@dataclass(frozen=True, slots=True)
class ControllersListed:
    """All controllers that live, by name."""

    controllers: tuple[ControllerSeen, ...]


PodNews = PodsListed | PodSeen | PodVanished | ControllersListed


class ProviderError(Exception):
    """The provider could not do it; later it may."""

    retry_after = 0.0
    """Seconds that it asks to wait; 0: it does not say."""


class NotCreated(ProviderError):
    """The pod was not created, for sure; another attempt may succeed later."""


class ProviderFull(ProviderError):
    """There is no room for another pod, until one is deleted."""


class NameHeld(ProviderError):
    """Another process that lives has this controller's name."""


class PodProvider(Protocol):
    """Creates, deletes and watches pods, in the name of one controller process."""

    async def create(self, name: str) -> None:
        """Returns when the pod exists; `watch` tells when it is ready.

        Raises:
            ProviderFull: it was not created.
            NotCreated: neither.
            ProviderError: it was not created, as far as is known.
        """

    async def delete(self, name: str) -> None:
        """Kills the pod at once. Returns when it can serve nobody any more, never existed, or is another
        controller's.

        Raises:
            ProviderError: it may still run.
        """

    def describe(self, name: str, function: str, version: int) -> None:
        """Tells people what the pod runs from now on, in its own time: nobody waits for it.

        Args:
            function: empty: nothing.
        """

    async def renew(self, address: str) -> None:
        """This controller lives, and for some seconds from now will be believed to.

        Args:
            address: where it is called; empty: nowhere yet.

        Raises:
            NameHeld: another process of the same name lives.
            ProviderError: it could not be told.
        """

    async def adopt(self, pod: PodSeen) -> None:
        """Makes the pod of a controller that does not live this one's, under a new term. `watch` tells
        when that happened, to this controller or to another that was faster.

        Raises:
            ProviderError: it could not be told.
        """

    def watch(self) -> AsyncGenerator[PodNews]:
        """Yields `PodsListed` after the `ControllersListed` of that moment, then changes, for ever. After a
        broken connection it connects again by itself and lists everything anew."""
