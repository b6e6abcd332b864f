"""Which address gets the next call. Decides only; `client` connects and calls.

An address that fails is ejected for a while that doubles with each further failure; when it is over, one
probe decides. With every address ejected, calls try the one whose time is up first: refusing them without
a try would make a short outage longer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

EJECT_FIRST = 0.2
"""Seconds; a restarted local process is back after about that."""
EJECT_MOST = 10.0
"""Seconds; how long a healed address may stay unused at most."""


@dataclass(slots=True)
class Backend:
    """What is known of one address."""

    address: str
    pending: int = 0
    failures: int = 0
    ejected_until: float = 0.0


class NoAddress(LookupError):
    """There is no address to try, or none that was not tried already."""


class Balancer:
    """The addresses of one service and how they fare. Times are seconds of any monotonic clock."""

    def __init__(self, addresses: Iterable[str] = ()) -> None:
        self._backends: dict[str, Backend] = {}
        self._turn = 0
        self.update(addresses)

    @property
    def addresses(self) -> tuple[str, ...]:
        """All of them, ejected or not."""
        return tuple(self._backends)

    def update(self, addresses: Iterable[str]) -> bool:
        """Replaces the set; those that stay keep their record. True when something changed."""
        wanted = dict.fromkeys(addresses)
        changed = wanted.keys() != self._backends.keys()
        self._backends = {a: self._backends.get(a) or Backend(a) for a in wanted}
        return changed

    def pick(self, now: float, *, tried: Collection[str] = ()) -> str:
        """The address with the fewest pending calls; equals take turns.

        Raises:
            NoAddress: every address is in `tried`, or there is none.
        """
        usable = self._usable(now, tried)
        least = min(backend.pending for backend in usable)
        equals = [backend for backend in usable if backend.pending == least]
        self._turn += 1
        return equals[self._turn % len(equals)].address

    def pick_by_key(self, key: str, now: float, *, tried: Collection[str] = ()) -> str:
        """The address with the highest hash together with the key, so that clients agree.

        Rendezvous hashing (Thaler and Ravishankar, 1998): when an address goes, only its own keys
        move, each to its second choice.

        Raises:
            NoAddress: every address is in `tried`, or there is none.
        """
        return choose_by_key(key, (one.address for one in self._usable(now, tried)))

    def started(self, address: str) -> None:
        """A call to the address begins."""
        if (backend := self._backends.get(address)) is not None:
            backend.pending += 1

    def ended(self, address: str) -> None:
        """A call to the address ended, however it did."""
        if (backend := self._backends.get(address)) is not None and backend.pending:
            backend.pending -= 1

    def succeeded(self, address: str) -> None:
        """The address answered: back in use."""
        if (backend := self._backends.get(address)) is not None:
            backend.failures = 0
            backend.ejected_until = 0.0

    def failed(self, address: str, now: float) -> bool:
        """The address could not be reached, or its connection broke: ejected.

        All calls on one connection fail together, so a failure during the pause says nothing new.
        True when it was in use until now.
        """
        backend = self._backends.get(address)
        if backend is not None and now >= backend.ejected_until:
            first = not backend.failures
            pause = min(EJECT_FIRST * 2**backend.failures, EJECT_MOST)
            backend.failures = min(backend.failures + 1, 16)
            backend.ejected_until = now + pause
            return first
        return False

    def to_probe(self, now: float) -> list[str]:
        """Ejected addresses whose time is up."""
        return [b.address for b in self._backends.values() if b.failures and b.ejected_until <= now]

    def next_probe_at(self) -> float | None:
        """When `to_probe` will next name something; None without an ejected address."""
        return min((b.ejected_until for b in self._backends.values() if b.failures), default=None)

    def _usable(self, now: float, tried: Collection[str]) -> list[Backend]:
        left = [backend for backend in self._backends.values() if backend.address not in tried]
        if not left:
            raise NoAddress("no address left to try")
        healthy = [backend for backend in left if not backend.failures]
        return healthy or [min(left, key=lambda backend: backend.ejected_until)]


def choose_by_key(key: str, addresses: Iterable[str]) -> str:
    """The address that everyone chooses who knows these; at least one."""
    return max(addresses, key=lambda address: _score(address, key))


def _score(address: str, key: str) -> bytes:
    return hashlib.blake2b(f"{address}\0{key}".encode(), digest_size=8).digest()
