"""Lines that a process writes, taken at a pace that leaves the event loop to all other pods.

One loop serves every pod of a host, and a process can write lines faster than they can be handled.
So they are handled a few at a time, and a process whose lines cost more than its share of the
loop's time is not read for a while. What it writes meanwhile fills the system's buffer; then the
writer waits, or, where that is the runtime, drops log lines and tells how many.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

AT_ONCE = 128
"""Lines handled in one turn of the loop: half a millisecond of log lines."""
SHARE = 0.2
"""Of the loop's time, what the lines of one process may cost in the long run."""
BURST = 0.02
"""Seconds of work that may be done without a pause, after a time of quiet."""


class LineReader:
    """Cuts what is read into lines. Made for one connection or pipe, whose owner reads.

    Args:
        on_line: for each line, without its end.
        on_endless: for what is longer than `max_line` without a line end; then it is forgotten.
        max_line: bytes.
        pause: stops the reading.
        resume: goes on with it.
    """

    def __init__(
        self,
        on_line: Callable[[bytes], None],
        on_endless: Callable[[bytes], None],
        *,
        max_line: int,
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self._on_line = on_line
        self._on_endless = on_endless
        self._max_line = max_line
        self._pause = pause
        self._resume = resume
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._closed = False
        # A leaky bucket: seconds of work done beyond the share, and when that was last true.
        self._debt = 0.0
        self._counted = 0.0

    def feed(self, data: bytes) -> None:
        """Takes what was read; handles it now or soon."""
        self._waiting += data
        if self._timer is None:
            self._work()

    def finish(self) -> bytes:
        """Nothing more will come: handles the last lines that wait, and closes.

        Returns:
            What has no line end.
        """
        *lines, rest = bytes(self._waiting).split(b"\n")
        for line in lines[-AT_ONCE:]:
            if not self._closed:
                self._on_line(line)
        self.close()
        return rest

    def close(self) -> None:
        """Forgets what waits."""
        self._closed = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _work(self) -> None:
        began = time.perf_counter()
        start = 0
        more = True
        for _ in range(AT_ONCE):
            end = self._waiting.find(b"\n", start)
            if end < 0:
                more = False
                break
            self._on_line(bytes(self._waiting[start:end]))
            start = end + 1
            if self._closed:
                return
        del self._waiting[:start]
        if not more and len(self._waiting) > self._max_line:
            endless = bytes(self._waiting)
            self._waiting.clear()
            self._on_endless(endless)
            if self._closed:
                return
        wait = self._spend(began)
        if more or wait:
            if not self._paused:
                self._paused = True
                self._pause()
            self._timer = self._loop.call_later(wait, self._go_on)

    def _spend(self, began: float) -> float:
        """Counts work that ends now; returns seconds to wait until there may be more."""
        now = time.perf_counter()
        self._debt = max(0.0, self._debt - (began - self._counted) * SHARE) + now - began
        self._counted = now
        return max(0.0, self._debt - BURST) / SHARE

    def _go_on(self) -> None:
        self._timer = None
        self._work()
        if self._timer is None and not self._closed:
            self._paused = False
            self._resume()
