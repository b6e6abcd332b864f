"""Uploads on their way in: how many, how large, how slow, and where they lie meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

from sanfran_api.bundles.pack import IN_MEMORY_BYTES, Packer
from sanfran_api.disk import refusing_full_disk
from sanfran_api.errors import Busy, TooLarge

WRITE_BYTES = 1024 * 1024
"""Gathered before a thread writes them to the temporary file."""


class Upload:
    """A file that a client sends. Made by `Intake.open`."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self.file = file
        self._limit = limit
        self._gathered = bytearray()
        self.size = 0

    async def write(self, part: bytes) -> None:
        """Takes the next part.

        Raises:
            TooLarge: the upload is over its limit.
            StoreFull: there is no room for it.
        """
        self.size += len(part)
        if self.size > self._limit:
            raise TooLarge(f"file: larger than {self._limit} bytes", field="file")
        self._gathered += part
        if len(self._gathered) >= WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Writes what was gathered. Called once more at the end."""
        part, self._gathered = self._gathered, bytearray()
        with refusing_full_disk():
            if self.size <= IN_MEMORY_BYTES:
                self.file.write(part)
            else:
                await asyncio.to_thread(self.file.write, part)


class Intake:
    """Admits uploads, up to so many at a time.

    Args:
        packer: has the temporary files.
        limit: bytes of one upload.
        at_once: uploads at the same time.
        idle_timeout: seconds that one may stand still.
    """

    def __init__(self, packer: Packer, *, limit: int, at_once: int, idle_timeout: float) -> None:
        self._packer = packer
        self.limit = limit
        self.idle_timeout = idle_timeout
        self._at_once = at_once
        self._running = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Upload]:
        """A place for one upload, freed at the end, whatever becomes of it.

        Raises:
            Busy: there are as many as may be.
        """
        if self._running >= self._at_once:
            raise Busy(f"{self._at_once} uploads are under way; try again in a moment")
        self._running += 1
        try:
            with self._packer.spool() as file:
                yield Upload(file, self.limit)
        finally:
            self._running -= 1
