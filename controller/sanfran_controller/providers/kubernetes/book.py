"""Which controllers live, by their Leases. Decides only: the caller tells what it saw and when.

A Lease names a holder and how long it holds. It is judged by the clock of whoever looks: it has run out when it has not
changed for so long (as in Kubernetes' own leader election), so that nobody's wall clock matters. Silence counts
only while this controller's own renewals come back over the same watch: when they do not, it is the API server
or the way to it that stands still, and nobody else's silence says anything either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sanfran_controller.providers import ControllerSeen

ADDRESS = "sanfran.dev/address"
"""Annotation: where the controller is called."""
STANDSTILL = 5.0
"""Seconds without a renewal of one's own; a renewal is due every two."""
SILENCE = 15.0
"""Seconds without a word of any Lease until their watch counts as dead: one's own changes all the time, and nobody's
death is noticed meanwhile."""
DURATION = 10.0
"""Seconds that a Lease runs when it does not say."""


@dataclass(slots=True)
class _Entry:
    version: str
    holder: str
    address: str
    duration: float
    changed: float


class LeaseBook:
    """All Leases of the release.

    Args:
        own: this controller's name.
    """

    def __init__(self, own: str) -> None:
        self._own = own
        self._entries: dict[str, _Entry] = {}
        self._contact: float | None = None

    def saw(self, lease: dict[str, Any], now: float) -> None:
        """A Lease is new, or changed."""
        meta, spec = lease["metadata"], lease.get("spec") or {}
        name, version = meta["name"], meta["resourceVersion"]
        entry = self._entries.get(name)
        if entry is not None and entry.version == version:
            return
        if not spec.get("holderIdentity"):
            self._entries.pop(name, None)
            return
        if name == self._own:
            self._in_contact(now)
        self._entries[name] = _Entry(
            version=version,
            holder=spec["holderIdentity"],
            address=(meta.get("annotations") or {}).get(ADDRESS, ""),
            duration=float(spec.get("leaseDurationSeconds") or DURATION),
            changed=now,
        )

    def listed(self, leases: list[dict[str, Any]], now: float) -> None:
        """All Leases there are."""
        names = {lease["metadata"]["name"] for lease in leases}
        for name in self._entries.keys() - names:
            self.gone(name)
        for lease in leases:
            self.saw(lease, now)

    def gone(self, name: str) -> None:
        """A Lease was deleted: its controller stopped."""
        self._entries.pop(name, None)

    def live(self, now: float) -> tuple[ControllerSeen, ...]:
        """Those that live, by name."""
        at = self._judged_at(now)
        return tuple(
            ControllerSeen(name, entry.address)
            for name, entry in sorted(self._entries.items())
            if at - entry.changed < entry.duration
        )

    def expired(self, now: float, since: float) -> list[tuple[str, str]]:
        """Names and versions of Leases that ran out so many seconds ago."""
        at = self._judged_at(now)
        return [
            (name, entry.version)
            for name, entry in self._entries.items()
            if name != self._own and at - entry.changed >= entry.duration + since
        ]

    def _in_contact(self, now: float) -> None:
        if self._contact is not None and now - self._contact > STANDSTILL:
            for entry in self._entries.values():
                entry.changed = min(entry.changed + now - self._contact, now)
        self._contact = now

    def _judged_at(self, now: float) -> float:
        return now if self._contact is None else min(now, self._contact + STANDSTILL)
