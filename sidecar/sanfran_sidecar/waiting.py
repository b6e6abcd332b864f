"""Two ways to wait: for a change that many watch, and for a thread that must not be left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

Ts = TypeVarTuple("Ts")
T = TypeVar("T")


class Changes:
    """Counts changes and wakes who waits for the next one.

    A waiter that is late sees that the count moved on and looks at the present state, so nothing
    is queued for it and the last state is never lost.
    """

    __slots__ = ("_next", "count")

    def __init__(self) -> None:
        self.count = 0
        self._next: asyncio.Future[None] | None = None

    def notify(self) -> None:
        """Something changed."""
        self.count += 1
        if self._next is not None:
            self._next.set_result(None)
            self._next = None

    async def wait(self, seen: int) -> None:
        """Returns as soon as `count` differs from `seen`."""
        if self.count != seen:
            return
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        # Shielded: the future is shared, and one waiter that leaves must not cancel it for all.
        await asyncio.shield(self._next)


async def in_thread(work: Callable[[*Ts], T], *args: *Ts) -> T:
    """Runs blocking work in a thread. Cancelled, it still waits for the thread to end.

    So files that the work touches can be removed afterwards. The work must be bounded.
    """
    running = asyncio.get_running_loop().run_in_executor(None, work, *args)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        if not running.cancelled():
            running.exception()  # seen: the cancellation is what the caller gets
        raise
