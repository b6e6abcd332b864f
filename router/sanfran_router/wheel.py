"""Timeouts of connections: one coarse wheel instead of an event-loop timer per request.

Moving a deadline later, which is what every request does, is one attribute: an item sits in one
slot, and is looked at again when that slot's time comes. Only a move to an earlier slot touches
the wheel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

TICK = 0.1
"""Seconds; how late a timeout may be."""
NEVER = float("inf")
_NO_SLOT = 1 << 62


class Timed:
    """Something with at most one deadline. Subclasses say what happens at it."""

    __slots__ = ("_slot", "deadline", "looked_at")

    def __init__(self) -> None:
        self.deadline = NEVER
        self.looked_at = NEVER
        """When the wheel comes by next. A deadline that is not before it may simply be assigned."""
        self._slot = _NO_SLOT

    def on_deadline(self) -> None:
        """Called once when the deadline has passed; it is unset by then."""
        raise NotImplementedError


class TimerWheel:
    """Holds what has a deadline. `start` it in a running event loop, `stop` it at the end.

    Args:
        clock: seconds, monotonic; deadlines are on this clock.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.clock = clock
        self._slots: dict[int, set[Timed]] = {}
        self._next = int(clock() / TICK)
        self._timer: asyncio.TimerHandle | None = None

    def set(self, item: Timed, deadline: float) -> None:
        """Gives the item its deadline (clock seconds), in place of the one that it had."""
        item.deadline = deadline
        if deadline < item.looked_at:
            self._move(item, int(deadline / TICK) + 1)

    def forget(self, item: Timed) -> None:
        """Drops the item at once, so that a closed connection is not kept until its deadline."""
        item.deadline = NEVER
        self._move(item, _NO_SLOT)

    def turn(self) -> None:
        """Fires what is due."""
        now = self.clock()
        due = int(now / TICK)
        while self._next <= due:
            slot, self._next = self._next, self._next + 1
            items = self._slots.pop(slot, set())
            try:
                while items:
                    self._look_at(items.pop(), now)
            finally:
                for item in items:  # one has failed: the others get their turn in the next slot
                    self._move(item, self._next)

    def _look_at(self, item: Timed, now: float) -> None:
        item._slot = _NO_SLOT
        item.looked_at = NEVER
        if item.deadline <= now:
            item.deadline = NEVER
            item.on_deadline()
        elif item.deadline != NEVER:
            self._move(item, int(item.deadline / TICK) + 1)

    def start(self) -> None:
        """Turns by itself from now on."""
        self._timer = asyncio.get_running_loop().call_later(TICK, self._run)

    def stop(self) -> None:
        """Never turns again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK, self._run)
        self.turn()

    def _move(self, item: Timed, slot: int) -> None:
        if item._slot != _NO_SLOT:
            held = self._slots.get(item._slot)
            if held is not None:
                held.discard(item)
                if not held:
                    del self._slots[item._slot]
        if slot != _NO_SLOT:
            slot = max(slot, self._next)
            self._slots.setdefault(slot, set()).add(item)
        item._slot = slot
        item.looked_at = slot * TICK if slot != _NO_SLOT else NEVER
