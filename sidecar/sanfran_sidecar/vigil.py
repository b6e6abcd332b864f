"""Watches over the process of an activation: that its event loop turns, and that it keeps to its memory.

A handler that loops for ever holds the process: no timer of its own fires, and nothing in it can
tell. So it is asked from outside, and ended when it has not answered for longer than one request may
take: whatever waits in it has had its 504 by then.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from sanfran_sidecar.errors import NoAnswer

ASK_EVERY = 0.5
"""Seconds from an answer to the next question. A question costs about 0.1 ms of CPU, both ends together."""
ANSWER_FIRST = 0.25
"""Seconds that a router has to say 504, before the process that it waits for ends. Its clock ticks every tenth
of a second. With `ASK_EVERY` less than the second within which a held event loop is to be found."""
DEFAULT_TIMEOUT = 60.0
"""Seconds for a request of a function that sets no timeout."""
LEAST_PATIENCE = 0.5
"""Seconds, however short a request may be: a machine that is busy makes answers late."""
SECOND_LOOK = 0.1
"""Seconds for an answer that is there already, where this process itself stood still."""

GROWTH = 1 << 30
"""Bytes per second that a process may grow by: writing to fresh memory is about as fast."""
LOOK_LEAST, LOOK_MOST = 0.05, 1.0
"""Seconds between looks at its memory."""


class Watched(Protocol):
    """The runtime, as far as it is watched."""

    @property
    def ended(self) -> asyncio.Future[Any]: ...

    async def memory(self) -> int: ...

    async def ping(self, timeout: float) -> None: ...

    def give_up(self, why: str) -> None: ...


async def watch_loop(runtime: Watched, request_timeout: float) -> None:
    """Ends the process when its event loop is held for longer than a request may take.

    Args:
        request_timeout: seconds; 0: the function sets none.

    Returns:
        When the process has ended, whyever.
    """
    patience = max(request_timeout or DEFAULT_TIMEOUT, LEAST_PATIENCE)
    while not await _ends_within(runtime, ASK_EVERY):
        try:
            await runtime.ping(patience + ANSWER_FIRST)
        except NoAnswer:
            runtime.give_up(f"timeout: its event loop was held for more than {patience:g} s")
            return


async def watch_memory(runtime: Watched, limit: int) -> None:
    """Ends the process when it has more memory than it may. The nearer it is, the closer the watch.

    Args:
        limit: bytes.

    Returns:
        When the process has ended, whyever.
    """
    pause = 0.0
    while not await _ends_within(runtime, pause):
        has = await runtime.memory()
        if has > limit:
            runtime.give_up(f"out_of_memory: it had {has >> 20} MB, {limit >> 20} MB are allowed")
            return
        pause = min(max((limit - has) / GROWTH, LOOK_LEAST), LOOK_MOST)


async def _ends_within(runtime: Watched, seconds: float) -> bool:
    await asyncio.wait({runtime.ended}, timeout=seconds)
    return runtime.ended.done()
