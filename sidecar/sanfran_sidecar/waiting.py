"""Ways to wait: for a change that many watch, and for work that must not be left half done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
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


class Present:
    """Counts those who are inside its `with`, and waits until nobody is."""

    __slots__ = ("_count", "_nobody")

    def __init__(self) -> None:
        self._count = 0
        self._nobody = asyncio.Event()
        self._nobody.set()

    def __enter__(self) -> None:
        self._count += 1
        self._nobody.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._nobody.set()

    async def wait_nobody(self, patience: float) -> None:
        """Returns when nobody is there, or after `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                await self._nobody.wait()
        except TimeoutError:
            pass


async def to_the_end(work: Coroutine[object, object, T]) -> T:
    """Runs bounded work that must not stop halfway, such as killing a process and wiping its files.

    Raises:
        CancelledError: the caller was cancelled, which is told when the work is done.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result


async def in_thread(work: Callable[[*Ts], T], *args: *Ts) -> T:
    """Runs bounded blocking work in a thread. Cancelled, it still waits for the thread to end.

    So files that the work touches can be removed afterwards.
    """
    return await to_the_end(asyncio.to_thread(work, *args))


def fail(answer: asyncio.Future[T], error: Exception) -> None:
    """Settles an answer that nobody may be waiting for any more."""
    answer.set_exception(error)
    answer.exception()  # marks it as seen
