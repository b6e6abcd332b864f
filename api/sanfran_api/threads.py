"""Work in threads that stops when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")
Check = Callable[[], None]
"""Called every now and then by the work; raises `Abandoned` when its result is not wanted any more."""


class Abandoned(Exception):
    """Nobody waits for this any more."""


async def in_thread(
    work: Callable[[Check], T],
    executor: Executor | None = None,
    discard: Callable[[T], object] = lambda _: None,
) -> T:
    """Runs work in a thread. Cancelled, it tells the work and waits until that has stopped: it may
    use what the caller is about to close.

    Args:
        executor: None: asyncio's own.
        discard: given a result that came all the same.
    """
    gone = threading.Event()

    def check_wanted() -> None:
        if gone.is_set():
            raise Abandoned

    working = asyncio.get_running_loop().run_in_executor(executor, work, check_wanted)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        gone.set()
        working.add_done_callback(lambda done: _drop(done, discard))
        await asyncio.wait({working})
        raise


def _drop(working: asyncio.Future[T], discard: Callable[[T], object]) -> None:
    if not working.cancelled() and working.exception() is None:
        discard(working.result())
