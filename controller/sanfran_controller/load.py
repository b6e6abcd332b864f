"""What routers report: requests in flight and queued per function. Decides nothing, does no I/O.

A router that falls silent is forgotten after `EXPIRE` seconds: it may have died with its requests.
"""

from __future__ import annotations

from dataclasses import dataclass

from sanfran_proto.sanfran import v1 as pb

EXPIRE = 3.0
"""Seconds; three reports that did not come."""


@dataclass(slots=True)
class _Router:
    reported_at: float
    functions: dict[str, pb.FunctionLoad]


class Loads:
    """The latest report of every router. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._routers: dict[str, _Router] = {}
        self._parts: dict[str, _Router] = {}

    @property
    def routers(self) -> int:
        """Routers that are heard."""
        return len(self._routers)

    def report(self, report: pb.LoadReport, now: float) -> None:
        """Takes a router's report, or the next part of it; whole, it replaces the former one."""
        if report.leaving:
            self._routers.pop(report.router, None)
            self._parts.pop(report.router, None)
            return
        former = self._parts.pop(report.router, None)
        functions = former.functions if former is not None and report.part else {}
        functions.update((load.name, load) for load in report.functions)
        kept = self._parts if report.more else self._routers
        kept[report.router] = _Router(now, functions)

    def expire(self, now: float) -> list[str]:
        """Forgets the routers that fell silent, and names them."""
        silent = [
            name for name, router in self._routers.items() if router.reported_at <= now - EXPIRE
        ]
        for name in silent:
            del self._routers[name]
        for name, part in list(self._parts.items()):
            if part.reported_at <= now - EXPIRE:
                del self._parts[name]
        return silent

    def demand(self, name: str) -> int:
        """Requests of a function in flight or queued, on all routers."""
        return sum(self.now(name))

    def now(self, name: str) -> tuple[int, int]:
        """Requests of a function in flight, and those queued, on all routers."""
        in_flight = queued = 0
        for router in self._routers.values():
            load = router.functions.get(name)
            if load is not None:
                in_flight += load.in_flight
                queued += load.queued
        return in_flight, queued

    def peak(self, name: str) -> int:
        """The same at its highest since each router's former report."""
        total = 0
        for router in self._routers.values():
            load = router.functions.get(name)
            if load is not None:
                total += max(load.peak_in_flight, load.in_flight + load.queued)
        return total
