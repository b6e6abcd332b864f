"""Folders with an empty file in them, made beforehand: on ext4 making both takes a millisecond, of the four of a
cold call, and renaming them takes 0.05."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import deque
from pathlib import Path

from sanfran_common.telemetry.logs import get_logger

from sanfran_sidecar.waiting import in_thread

log = get_logger("spares")

KEPT = 16
"""Enough for a burst; each is two inodes."""
REFILL_PAUSE = 0.1
"""Seconds after one was taken, in which its activation has the cores."""
FULL_PAUSE = 5.0
"""Seconds until it is tried again, when the disk is full."""
PREFIX = "spare-"
FILE = "empty"


class Spares:
    """The folders. `keep` makes them.

    Args:
        root: where they are, with names that begin with `PREFIX`. What an earlier process left is its owner's to remove.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._ready: deque[Path] = deque()
        self._taken = asyncio.Event()

    def take(self) -> Path | None:
        """A private folder whose only content is an empty file `FILE`; it is the caller's now."""
        self._taken.set()
        return self._ready.popleft() if self._ready else None

    async def keep(self) -> None:
        """Makes new ones for those that were taken. Does not end."""
        while True:
            pause = REFILL_PAUSE
            try:
                while len(self._ready) < KEPT:
                    self._ready.append(await in_thread(self._make))
            except OSError as error:
                log.debug("no spare folder", error=str(error))
                pause = FULL_PAUSE
            self._taken.clear()
            await self._taken.wait()
            await asyncio.sleep(pause)

    def _make(self) -> Path:
        made = self._root / f"{PREFIX}{secrets.token_hex(8)}"
        made.mkdir(mode=0o700)
        os.close(os.open(made / FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return made
