"""The last lines that one activation wrote, bounded in lines and bytes.

Writers never wait. A reader that falls behind loses the oldest lines and is told how many.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from itertools import islice
from typing import NamedTuple

from sanfran_proto.sanfran import v1 as pb

from sanfran_sidecar.waiting import Changes

MAX_TEXT = 8192
"""Characters of a line that are kept; a longer one is one blob and is cut."""
MAX_TOTAL = 1 << 20
"""Characters that are kept in all, so that hundreds of pods on a machine stay affordable."""

READ_AT_ONCE = 16
READ_PAUSE = 0.005
"""Lines that a reader gets in one turn of the loop, and seconds until the next. A line costs 0.1 ms
of gRPC, and the loop serves all pods."""

LAST_LINES, LAST_CHARACTERS = 200, 64 << 10
"""Of an activation that is over, handed to whoever ordered it: its log goes with the pod."""

LEVELS = {
    "debug": pb.LogLevel.DEBUG,
    "info": pb.LogLevel.INFO,
    "warning": pb.LogLevel.WARNING,
    "error": pb.LogLevel.ERROR,
}


class Line(NamedTuple):
    """One line as it was written."""

    time_ms: int
    level: str
    text: str
    request: str = ""


class ActivationLog:
    """Lines of one activation.

    Args:
        pod: named in every line.
        version: of the function, named in every line.
        max_lines: that are kept.
        echo: called with each line, too.
    """

    def __init__(
        self, pod: str, version: int, max_lines: int, echo: Callable[[Line], None] | None = None
    ) -> None:
        self._pod = pod
        self._version = version
        self._max_lines = max_lines
        self._echo = echo
        self._lines: deque[Line] = deque()
        self._size = 0
        self._first = 0
        self._changes = Changes()
        self._closed = False

    def append(self, level: str, text: str, time_ms: int | None = None, request: str = "") -> None:
        """Keeps a line, at the cost of the oldest ones.

        Args:
            level: a key of `LEVELS`.
            text: without its line end.
            time_ms: Unix time; now when None.
            request: id of the request whose handler wrote it.
        """
        if len(text) > MAX_TEXT:
            text = text[:MAX_TEXT] + "…"
        now = time.time_ns() // 1_000_000 if time_ms is None else time_ms
        line = Line(now, level, text, request)
        if self._echo is not None:
            self._echo(line)
        self._lines.append(line)
        self._size += len(text)
        while len(self._lines) > self._max_lines or self._size > MAX_TOTAL:
            self._size -= len(self._lines.popleft().text)
            self._first += 1
        self._changes.notify()

    def close(self) -> None:
        """The activation is over: followers get what is left and end."""
        self._closed = True
        self._changes.notify()

    def last_words(self) -> list[pb.LogLine]:
        """The newest lines, as few as one message may carry."""
        kept: list[Line] = []
        size = 0
        for line in islice(reversed(self._lines), LAST_LINES):
            size += len(line.text)
            if size > LAST_CHARACTERS:
                break
            kept.append(line)
        return [self._message(line) for line in reversed(kept)]

    async def read(self, *, follow: bool, tail: int) -> AsyncGenerator[pb.LogLine, None]:
        """The lines kept, and with `follow` those to come, until the activation is over.

        Args:
            tail: lines of the past at most; 0: all.
        """
        end = self._first + len(self._lines)
        position = max(self._first, end - tail) if tail else self._first
        while True:
            seen = self._changes.count
            if position < self._first:
                yield self._message(
                    Line(
                        time.time_ns() // 1_000_000,
                        "warning",
                        f"[{self._first - position} lines dropped]",
                    )
                )
                position = self._first
            start = position - self._first
            batch = list(islice(self._lines, start, start + READ_AT_ONCE))
            for line in batch:
                yield self._message(line)
            position += len(batch)
            if len(batch) == READ_AT_ONCE:
                await asyncio.sleep(READ_PAUSE)
            if batch:
                continue
            if self._closed or not follow:
                return
            await self._changes.wait(seen)

    def _message(self, line: Line) -> pb.LogLine:
        return pb.LogLine(
            time_ms=line.time_ms,
            level=LEVELS[line.level],
            text=line.text,
            pod=self._pod,
            version=self._version,
            request_id=line.request,
        )
