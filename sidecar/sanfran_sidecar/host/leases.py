"""Which controllers live. Decides only: the caller tells the time, in seconds of one monotonic clock.

A controller lives while its lease runs; it renews it about once a second. One process at a time has a
controller's name: the next one gets it when the former's connection ended, or its lease ran out.
"""

from __future__ import annotations

from dataclasses import dataclass

from sanfran_sidecar.errors import NameTaken

STANDSTILL = 2.5
"""Seconds without a renewal by anybody. Then it was this process that stood still, or nobody was there to renew:
neither says that those died whose leases ran out meanwhile."""


@dataclass(slots=True)
class Lease:
    """A controller that lives.

    Args:
        process: who holds it.
        address: where it is called; empty: nowhere yet.
        until: when it runs out.
        streams: watches that its process has open.
    """

    name: str
    process: str
    address: str
    until: float
    streams: int = 0


class Leases:
    """All leases that run."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._holders: dict[
            str, str
        ] = {}  # the last process of each name, its lease run out or not
        self._renewed_at: float | None = None

    def renew(self, name: str, process: str, address: str, ttl: float, now: float) -> bool:
        """Makes a lease run for `ttl` seconds from now.

        Returns:
            Whether another process than the last one has the name now.

        Raises:
            NameTaken: another process of that name lives.
        """
        if self._renewed_at is not None and now - self._renewed_at > STANDSTILL:
            for one in self._leases.values():
                one.until += now - self._renewed_at
        self._renewed_at = now
        self.expire(now)
        lease = self._leases.get(name)
        if lease is not None and lease.process != process:
            if lease.streams:
                raise NameTaken(f"another process that lives is named {name}: {lease.process}")
            lease = None
        if lease is None:
            self._leases[name] = Lease(name, process, address, now + ttl)
        else:
            lease.address, lease.until = address, now + ttl
        former = self._holders.get(name)
        self._holders[name] = process
        return former is not None and former != process

    def expire(self, now: float) -> None:
        """Forgets the leases that ran out."""
        self._leases = {name: one for name, one in self._leases.items() if one.until > now}

    def holds(self, name: str, process: str) -> bool:
        """Whether the process is the one of that name, and lives."""
        lease = self._leases.get(name)
        return lease is not None and lease.process == process

    def superseded(self, name: str, process: str) -> bool:
        """Whether the name is another process's by now."""
        return self._holders.get(name, process) != process

    def lives(self, name: str) -> bool:
        """Whether a controller of that name lives."""
        return name in self._leases

    def connected(self, name: str, process: str, streams: int) -> None:
        """The process has so many watches open, if the lease is its."""
        lease = self._leases.get(name)
        if lease is not None and lease.process == process:
            lease.streams = streams

    def live(self) -> list[Lease]:
        """Those that run, by name."""
        return sorted(self._leases.values(), key=lambda lease: lease.name)
