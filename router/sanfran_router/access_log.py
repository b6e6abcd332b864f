"""The access log: one JSON line on stdout per request that names a function.

Lines are gathered and written by a thread of their own, so that a slow or full stdout never blocks
a request: what goes beyond a bound is dropped and counted. Several processes write to the same
pipe: a write of at most PIPE_BUF bytes is not torn apart (pipe(7)), so no write is longer.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import time
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from sanfran_router.exchange import Exchange

WAITING_BYTES = 1 << 20
"""That wait to be written; lines beyond it are dropped."""
WRITE_BYTES = min(select.PIPE_BUF, 4096)
TARGET_LONGEST = 1024
"""Characters of a target, so that a line fits one write even if each takes two bytes."""
GATHER_SECONDS = 0.05
"""How long lines are gathered: the thread is woken twenty times a second and not per request."""
FLUSH_SECONDS = 1.0
"""For the last lines, at the end."""
STDOUT = 1


class AccessLog:
    """Call it with each finished exchange, within `with` and a running event loop."""

    def __init__(self) -> None:
        self.dropped = 0
        """Lines."""
        self._lines: list[bytes] = []
        self._flushing: asyncio.TimerHandle | None = None
        self._queue: SimpleQueue[list[bytes] | None] = SimpleQueue()
        self._accepted = 0  # bytes, counted by the event loop's thread
        self._written = 0  # bytes, written or given up, counted by the other one
        # Daemonic: it may hang in a write for good.
        self._thread = Thread(target=self._write_all, name="access log", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._flush()
        self._queue.put(None)
        self._thread.join(FLUSH_SECONDS)

    def __call__(self, exchange: Exchange) -> None:
        """Status 0: the client left before the answer began."""
        if self._accepted - self._written > WAITING_BYTES:
            self.dropped += 1
            return
        line = _line(exchange)
        self._accepted += len(line)
        self._lines.append(line)
        if self._flushing is None:
            loop = asyncio.get_running_loop()
            self._flushing = loop.call_later(GATHER_SECONDS, self._flush)

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
            lines, self._lines = self._lines, []
            self._queue.put(lines)

    def _write_all(self) -> None:
        while (lines := self._queue.get()) is not None:
            for batch in _batches(lines):
                try:
                    self._write(batch)
                except OSError:
                    pass  # nobody reads it any more, or the disk is full
                self._written += len(batch)

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(STDOUT, data) :]
            except BlockingIOError:  # someone else has made it so
                select.select([], [STDOUT], [])


def _line(exchange: Exchange) -> bytes:
    request = exchange.request
    line: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "request_id": request.request_id.decode("latin-1"),
        "peer": exchange.client.peer,
        "method": _shortened(request.method, 32),
        "target": _shortened(request.target, TARGET_LONGEST),
        "function": exchange.function.name,
        "version": exchange.function.version,
        "status": exchange.status,
        "ms": round((time.monotonic() - exchange.began) * 1000, 3),
        "cold": exchange.cold,
    }
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _shortened(text: bytes, longest: int) -> str:
    shown = text[:longest].decode("latin-1")
    return shown + "…" if len(text) > longest else shown


def _batches(lines: list[bytes]) -> Iterator[bytes]:
    """Whole lines together, as many as one write takes."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        if size + len(line) > WRITE_BYTES and batch:
            yield b"".join(batch)
            batch, size = [], 0
        batch.append(line)
        size += len(line)
    if batch:
        yield b"".join(batch)
