"""What the workers count, on its way to the supervisor, which adds it up.

A worker tells what it has counted since it told last, and counts anew; so totals only grow, however
often workers are replaced.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sanfran_router.traffic import Traffic

if TYPE_CHECKING:
    from sanfran_router.function import Function
    from sanfran_router.plane import DataPlane

SLICE = 50
"""Functions that are told in one turn of the event loop; requests come in between. Some 0.3 ms."""
NAMES_KEPT = 20_000
"""Functions whose totals are kept; the one that had no requests for longest makes room."""
NO_FUNCTION = ""
"""The name of what names none."""

Row = list[Any]
"""A function's name, what was counted (or null), requests in flight, requests that wait."""


async def told(plane: DataPlane) -> AsyncIterator[list[Row]]:
    """A worker's counts and gauges, function by function, a few at a time."""
    if plane.unrouted.touched:
        yield [[NO_FUNCTION, plane.unrouted.take(), 0, 0]]
    functions = list(plane.table.functions.values())
    for start in range(0, len(functions), SLICE):
        rows = [row for one in functions[start : start + SLICE] if (row := _row(one)) is not None]
        if rows:
            yield rows
        await asyncio.sleep(0)


def _row(function: Function) -> Row | None:
    traffic, running, queued = function.traffic, function.in_flight, len(function.waiting)
    if traffic.touched:
        return [function.name, traffic.take(), running, queued]
    return [function.name, None, running, queued] if running or queued else None


@dataclass(slots=True)
class Gauges:
    """What one worker, or all together, have at this moment."""

    in_flight: dict[str, int] = field(default_factory=dict)
    queued: dict[str, int] = field(default_factory=dict)
    connections: int = 0
    functions: int = 0

    def add(self, other: Gauges) -> None:
        """Takes in another worker's. All know the same functions."""
        for mine, told in ((self.in_flight, other.in_flight), (self.queued, other.queued)):
            for name, count in told.items():
                mine[name] = mine.get(name, 0) + count
        self.connections += other.connections
        self.functions = max(self.functions, other.functions)


class Totals:
    """What all workers have counted since the router started."""

    def __init__(self) -> None:
        self.functions: OrderedDict[str, Traffic] = OrderedDict()
        self.connections_refused = 0
        self.access_lines_dropped = 0
        self.worker_restarts = 0

    def add(self, rows: list[Row], gauges: Gauges) -> None:
        """Takes in what a worker tells; what runs and waits goes to its gauges."""
        for name, counted, running, queued in rows:
            if counted is not None:
                self._traffic(name).add(counted)
            if running:
                gauges.in_flight[name] = running
            if queued:
                gauges.queued[name] = queued

    def _traffic(self, name: str) -> Traffic:
        traffic = self.functions.get(name)
        if traffic is None:
            traffic = self.functions[name] = Traffic()
            if len(self.functions) > NAMES_KEPT:
                self.functions.popitem(last=False)
        self.functions.move_to_end(name)
        return traffic
