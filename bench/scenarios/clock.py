"""An event loop whose time is simulated: where it would wait, it jumps to what comes next.

Hours pass in seconds, and every run is the same. Code that asks `time.monotonic` is told the loop's
time; nothing may wait for a socket, a thread or a process.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest import mock

import structlog

T = TypeVar("T")

START = 1000.0
"""Seconds on the clock at first; not zero, which would hide who takes it for "never"."""


class Stuck(RuntimeError):
    """Everybody waits, and nothing will ever happen."""


class _Jump(selectors.SelectSelector):
    """Finds nothing to read, and lets the time pass that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("nothing is due")
        self.now += timeout
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """See above."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)
        self._clock_resolution = 1e-9  # sums of floats may fall short of a time by this

    def time(self) -> float:
        """Simulated seconds."""
        return self._jump.now


def simulate(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end in simulated time, without a word in the logs."""
    loop = SimulatedLoop()
    words = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        with (
            mock.patch.object(time, "monotonic", loop.time),
            asyncio.Runner(loop_factory=lambda: loop) as runner,
        ):
            return runner.run(work)
    finally:
        structlog.configure(**words)
