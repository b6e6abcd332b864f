"""Backups of a store that serves: out as a stream, and in again. See `backup` for what is in one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from sanfran_common.telemetry.logs import get_logger

from sanfran_api.disk import refusing_full_disk
from sanfran_api.errors import BadRequest, Busy, StoreFailed, StoreFull, TooLarge
from sanfran_api.store.backup import (
    COPY,
    MAX_HEAD_BYTES,
    REBUILD,
    RECEIVED,
    TRAILER_BYTES,
    Sealer,
    Unsealer,
    head,
)
from sanfran_api.store.rebuilding import Judged
from sanfran_api.store.store import Store
from sanfran_api.store.vault import KeyRefused

log = get_logger("backup")

PIECE_BYTES = 256 * 1024
AT_ONCE = 4
"""Backups at the same time. Each keeps the store's file from using pages again that it still has to read."""
SCRATCH_PREFIX = "restore-"
REBUILD_SECONDS, REBUILD_BYTES_PER_SECOND = 600.0, 4 << 20
"""Reading a backup may take so long, and so much more for its size; it takes a tenth of that. A file that was made for
it could have its reader go round in circles."""


class Backups:
    """Makes and restores them.

    Args:
        folder: of the store.
        limit: bytes that a store may have.
    """

    def __init__(self, store: Store, folder: Path, limit: int) -> None:
        self._store = store
        self._folder = folder
        self._limit = limit
        self._running = 0
        for left in store.scratch.glob(f"{SCRATCH_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """A backup of the store as it is now, piece by piece; what it took ends with the block.

        Raises:
            Busy: as many as may be are under way.
            StoreFailed: while it is read; then it has no end and is refused when it is restored.
        """
        if self._running >= AT_ONCE:
            raise Busy(f"{AT_ONCE} backups are under way; try again when one is done")
        self._running += 1
        try:
            async with _process(COPY, str(self._folder)) as process:
                yield self._pieces(process)
        finally:
            self._running -= 1
            self._store.forget_dead_readers()

    async def _pieces(self, process: asyncio.subprocess.Process) -> AsyncGenerator[bytes]:
        assert process.stdout is not None
        sealer = Sealer()
        yield sealer.add(head())
        while piece := await process.stdout.read(PIECE_BYTES):
            yield sealer.add(piece)
        if await process.wait():
            raise StoreFailed(f"the store could not be copied (exit code {process.returncode})")
        yield sealer.end()

    def check_size(self, size: int) -> None:
        """Before a backup of so many bytes is sent.

        Raises:
            TooLarge: no store may become so large.
            StoreFull: the disk has no room for it.
        """
        if size > self._limit + MAX_HEAD_BYTES + TRAILER_BYTES:
            raise self._too_large()
        free = shutil.disk_usage(self._store.scratch).free
        if size * 2 > free:
            raise StoreFull(
                f"a restore takes twice the backup's {size} bytes while it runs, and the disk under the data "
                f"folder has {free} free; nothing was changed. Make room there, then try again"
            )

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"backup: larger than {self._limit} bytes, which a store may have here; nothing was changed. "
            "Raise --max-store-bytes, then try again",
            field="backup",
        )

    async def restore(self, content: AsyncIterator[bytes], *, by: str = "") -> tuple[Judged, int]:
        """Puts what a backup has in the place of all that there is, at once and as a whole.

        Args:
            content: the backup, as it comes in.
            by: who does it.

        Returns:
            What is there now, and the revision that this made.

        Raises:
            BadRequest: it is no backup, not whole, or of a newer service. Nothing was changed.
            TooLarge: it is larger than a store may be. Nothing was changed.
            KeyRefused: its secrets need a key that is not there. Nothing was changed.
            StoreFull: there is no room for it beside what there is. Nothing was changed.
            Busy: another restore, or a rotation of keys, is under way.
        """
        with self._store.alone(), _scratch(self._store.scratch) as folder:
            size = await self._receive(content, folder / RECEIVED)
            judged = await self._rebuild(folder, size)
            if lacking := self._store.lacking_keys(judged.keys):
                raise KeyRefused(
                    f"--secrets-key-file: the secrets in this backup need the key {', '.join(lacking)}; "
                    "add it to the file, after the first one, and restart the service. Nothing was "
                    "changed"
                )
            revision = await self._store.replace(folder, by)
        log.info("restored", functions=judged.functions, revision=revision, by=by)
        return judged, revision

    async def _receive(self, content: AsyncIterator[bytes], place: Path) -> int:
        unsealer, size = Unsealer(), 0
        with refusing_full_disk(), place.open("xb") as file:
            async for part in content:
                piece = unsealer.feed(part)
                size += len(piece)
                if size > self._limit:
                    raise self._too_large()
                await asyncio.to_thread(file.write, piece)
            unsealer.end()
        return size

    async def _rebuild(self, folder: Path, size: int) -> Judged:
        limit = REBUILD_SECONDS + size / REBUILD_BYTES_PER_SECOND
        async with _process(REBUILD, str(folder), str(self._limit)) as process:
            try:
                async with asyncio.timeout(limit):
                    said, _ = await process.communicate()
            except TimeoutError:
                raise BadRequest(
                    f"backup: reading it took more than {limit:g} s; nothing was changed",
                    field="backup",
                ) from None
        told = json.loads(said.splitlines()[-1]) if process.returncode == 0 and said else {}
        if "full" in told:
            raise StoreFull(told["full"])
        if "functions" not in told:
            why = told.get("refused", f"reading it ended with code {process.returncode}")
            raise BadRequest(
                f"backup: what is in it is no whole store ({why}); nothing was changed",
                field="backup",
            )
        keys = [bytes.fromhex(key) for key in told["keys"]]
        return Judged(told["functions"], told["revision"], keys)


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    with refusing_full_disk():
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _process(*args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of `backup`, which does not outlive the block."""
    environ = {name: value for name, value in os.environ.items() if "SANFRAN" not in name}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sanfran_api.store.backup", *args),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=environ,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
