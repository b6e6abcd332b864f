"""Unpacked read-only bundles on disk by digest, shared by all pods of the process.

In a volume that function code of another user sees (`mode` lets its group pass), a bundle is closed to it except
while it runs, and no compiled code is kept, which only that other user could write.

An entry is a folder `<digest>.<bytes on disk>`. It is made under another name and renamed when
complete, so what bears the name is complete. Least recently used entries make room; one that a pod
runs is never removed, even if that means to be over the bound until the pod lets go.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import secrets
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from prometheus_client import Counter, Gauge
from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.telemetry.logs import get_logger

from sanfran_sidecar.compiled import CompiledCode
from sanfran_sidecar.errors import BundleRefused, BundleUnavailable, SidecarError
from sanfran_sidecar.fetch import GivenBundle
from sanfran_sidecar.folders import PRIVATE, lock_folder, remove_tree
from sanfran_sidecar.plain import PlainTar, plain
from sanfran_sidecar.spares import FILE, PREFIX, Spares
from sanfran_sidecar.unpack import Limits, only_file, unpack
from sanfran_sidecar.waiting import fail, in_thread

log = get_logger("cache")

HITS = Counter("sanfran_sidecar_bundle_hits", "Activations whose bundle was on disk")
MISSES = Counter("sanfran_sidecar_bundle_misses", "Activations whose bundle had to be fetched")
SIZE = Gauge("sanfran_sidecar_bundle_cache_bytes", "Bytes of unpacked bundles on disk, about")

IN_MEMORY = 1 << 20
"""Bytes of an archive that are held in memory; a larger one goes through an unlinked file."""
INLINE = 32 << 10
"""Bytes of an archive that is unpacked on the event loop: at most 21 files, under a millisecond,
while the way to a thread and back may cost several when the loop is busy."""
WORTH_COMPILED = 128 << 10
"""Bytes on disk of a bundle whose compiled code is kept; a smaller one is compiled in a millisecond or
two. TypeScript is always worth it: what takes its types away loads in 40 ms."""
TYPESCRIPT = (".ts", ".mts", ".cts")
TEMPORARY = "partial-"
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
OPEN, CLOSED = 0o555, 0o500
"""Modes of a bundle's folder: its function may read it, or is not running."""
ENTRY = re.compile(r"([0-9a-f]{64})\.(\d+)")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Source(Protocol):
    """Where bundles come from."""

    async def fetch(self, digest: str, into: IO[bytes], limit: int) -> None:
        """Writes the bundle; see `ApiBundles.fetch`."""


@dataclass(slots=True, eq=False)
class _Entry:
    folder: Path
    size: int
    leases: int = 0


class BundleLease:
    """A bundle that stays on disk until `release`, which may be called more than once."""

    __slots__ = ("_cache", "_compiled", "_entry", "folder")

    def __init__(self, cache: DigestCache, entry: _Entry, compiled: CompiledCode | None) -> None:
        self._cache = cache
        self._entry: _Entry | None = entry
        self._compiled = compiled
        self.folder = entry.folder

    def compiled(self, function: str, entry: str) -> Path | None:
        """Where the function's processes keep its compiled code; None where that is not worth it."""
        assert self._entry is not None, "released"
        if self._compiled is None:
            return None
        if self._entry.size < WORTH_COMPILED and not entry.endswith(TYPESCRIPT):
            return None
        return self._compiled.folder(self.folder, function)

    def release(self) -> None:
        """The pod that ran it is dead."""
        if self._entry is not None:
            self._entry.leases -= 1
            if not self._entry.leases:
                self._cache.unused(self._entry)
            self._entry = None
            self._cache.make_room()


class DigestCache:
    """The cache. Use it with `async with`; it owns its folder meanwhile.

    Args:
        folder: made if needed; on one file system with nothing else that matters.
        max_bytes: on disk, about, of what is kept.
        source: asked on a miss, once for all who wait for the same digest.
        limits: of one bundle.
        mode: of the folder.

    Raises:
        FolderInUse: on entering.
    """

    def __init__(
        self, folder: Path, max_bytes: int, source: Source, limits: Limits, *, mode: int = PRIVATE
    ) -> None:
        self._folder = folder
        self._mode = mode
        self._max_bytes = max_bytes
        self._source = source
        self._limits = limits
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._size = 0
        self._fetching: dict[str, asyncio.Future[None]] = {}
        self._removing: set[asyncio.Task[None]] = set()
        self._tasks = OwnedTasks("bundle cache")
        self._lock: IO[str] | None = None
        self._compiled = CompiledCode(folder) if mode == PRIVATE else None
        self._spares = Spares(folder)

    async def __aenter__(self) -> Self:
        self._lock = lock_folder(self._folder, "cache folder", self._mode)
        try:
            await in_thread(self._restore, self._lock)
        except BaseException:
            self._lock.close()
            raise
        await self._tasks.__aenter__()
        self._tasks.loop(self._spares.keep(), name="spare folders")
        self.make_room()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._removing:
                await asyncio.wait(self._removing)
            await self._tasks.__aexit__(kind, error, trace)
        finally:
            if self._lock is not None:
                self._lock.close()

    async def acquire(self, digest: str, size: int, given: bytes = b"") -> BundleLease:
        """The unpacked bundle, from disk or from the source.

        Args:
            digest: SHA-256, 64 hexadecimal digits.
            size: bytes of the archive as announced; 0: unknown.
            given: the bundle, where it came with the order to run it; else the source is asked.

        Returns:
            A lease that the caller releases when no process uses the files any more.

        Raises:
            BundleUnavailable: it cannot be had now.
            BundleRefused: it is no good.
        """
        self._forget_if_lost(digest)
        (HITS if digest in self._entries else MISSES).inc()
        if given and digest not in self._entries and digest not in self._fetching:
            given = plain(given, self._limit(size))
            self._take_given(digest, size, given)
        while digest not in self._entries:
            fetching = self._fetching.get(digest)
            if fetching is None:
                fetching = self._fetching[digest] = asyncio.get_running_loop().create_future()
                source = GivenBundle(given) if given else self._source
                fetch = self._fetch(digest, size, source, fetching)
                self._tasks.spawn(fetch, name=f"fetch {digest}")
            # Another entry may push this one out before this waiter runs again: look once more.
            await asyncio.shield(fetching)
        entry = self._entries[digest]
        if not entry.leases and self._mode != PRIVATE:
            entry.folder.chmod(OPEN)
        entry.leases += 1
        self._entries.move_to_end(digest)
        return BundleLease(self, entry, self._compiled)

    def _take_given(self, digest: str, size: int, given: bytes) -> None:
        """Unpacks most of what is given at once, without a task. What it cannot, `_fetch` does or refuses."""
        found = only_file(given) if len(given) <= min(INLINE, self._limit(size)) else None
        if found is None or hashlib.sha256(given).hexdigest() != digest:
            return
        partial = self._spares.take()
        if partial is None:
            return
        try:
            entry = self._name(partial, digest, found.write(partial, FILE, self._limits))
        except (SidecarError, OSError) as error:
            log.debug("given bundle not unpacked at once", digest=digest, error=str(error))
            self._tasks.spawn(self._remove(partial), name=f"remove {digest}")
        else:
            self._enter(digest, entry)

    def _limit(self, size: int) -> int:
        """Bytes of an archive that was announced with a size; 0: unknown."""
        return min(size, self._limits.bytes) if size else self._limits.bytes

    def _name(self, partial: Path, digest: str, used: int) -> _Entry:
        """What was unpacked there is complete."""
        partial.chmod(CLOSED if self._mode != PRIVATE else OPEN)
        folder = self._folder / f"{digest}.{used}"
        partial.rename(folder)
        return _Entry(folder, used)

    def _enter(self, digest: str, entry: _Entry) -> None:
        self._entries[digest] = entry
        self._size += entry.size
        entry.leases += 1  # the newest is wanted by someone
        self.make_room()
        entry.leases -= 1

    def _forget_if_lost(self, digest: str) -> None:
        """Notes the use, for the order at the next start; forgets an entry that someone removed."""
        entry = self._entries.get(digest)
        if entry is not None:
            try:
                os.utime(entry.folder)
            except FileNotFoundError:
                log.warning("bundle lost", folder=str(entry.folder))
                del self._entries[digest]
                self._size -= entry.size

    def unused(self, entry: _Entry) -> None:
        """No process runs it now: a function may have left more compiled code than it should."""
        if self._mode != PRIVATE:
            self._close(entry)
        if self._compiled is not None and self._compiled.has(entry.folder):
            checking = self._compiled.limit(entry.folder, lambda: entry.leases > 0)
            self._tasks.spawn(checking, name=f"compiled {entry.folder.name}")

    def _close(self, entry: _Entry) -> None:
        try:
            entry.folder.chmod(CLOSED)
        except OSError as error:  # someone removed it
            log.warning("bundle lost", folder=str(entry.folder), error=str(error))

    def make_room(self, most: int | None = None) -> None:
        """Drops entries that nobody uses, the longest unused first, until the bound holds.

        Args:
            most: another bound than the cache's own, in bytes.
        """
        most = self._max_bytes if most is None else most
        if self._size > most:
            for digest, entry in list(self._entries.items()):
                if self._size <= most:
                    break
                if entry.leases:
                    continue
                del self._entries[digest]
                self._size -= entry.size
                doomed = self._folder / f"{TEMPORARY}{secrets.token_hex(8)}"
                try:
                    entry.folder.rename(doomed)  # at once: half an entry never bears the name
                except OSError as error:  # someone else removed it, most likely
                    log.warning("not removed", folder=str(entry.folder), error=str(error))
                    continue
                compiled = self._compiled.forget(entry.folder) if self._compiled is not None else []
                for path in (doomed, *compiled):
                    removing = self._tasks.spawn(self._remove(path), name=f"remove {digest}")
                    self._removing.add(removing)
                    removing.add_done_callback(self._removing.discard)
        SIZE.set(self._size)

    async def _fetch(
        self, digest: str, size: int, source: Source, done: asyncio.Future[None]
    ) -> None:
        try:
            try:
                entry = await self._fetch_and_unpack(digest, size, source)
            except OSError as error:
                if error.errno not in NO_SPACE or not any(
                    not kept.leases for kept in self._entries.values()
                ):
                    raise
                # Less is there than was allowed for: others share the disk, or the bound is too high.
                self.make_room(most=0)
                await asyncio.wait(self._removing)
                entry = await self._fetch_and_unpack(digest, size, source)
        except asyncio.CancelledError:
            done.cancel()
            raise
        except SidecarError as error:
            fail(done, error)
        except OSError as error:
            # A full disk, most likely. Nothing is left of the attempt.
            full = error.errno in NO_SPACE
            reason = f"no space left for it in {self._folder}" if full else str(error)
            log.warning("bundle not written", digest=digest, error=str(error))
            fail(done, BundleUnavailable(f"bundle {digest}: not written: {reason}"))
        except Exception as error:
            # A mistake of ours costs this bundle and no other.
            log.exception("bundle failed", digest=digest)
            fail(done, BundleUnavailable(f"bundle {digest}: {type(error).__name__}: {error}"))
        else:
            self._enter(digest, entry)
            done.set_result(None)
        finally:
            del self._fetching[digest]

    async def _fetch_and_unpack(self, digest: str, size: int, source: Source) -> _Entry:
        limit = self._limit(size)
        if size > self._limits.bytes:
            raise BundleRefused(f"bundle of {size} bytes; {self._limits.bytes} are allowed")
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(self._folder)) as archive:
            await source.fetch(digest, archive, limit)
            inline = 0 < size <= INLINE
            archive.seek(0)
            partial = self._folder / f"{TEMPORARY}{secrets.token_hex(8)}"
            try:
                partial.mkdir(mode=0o700)
                tar = PlainTar(archive, digest, limit)
                if inline:
                    used = self._unpack(tar, partial, digest)
                else:
                    used = await in_thread(self._unpack, tar, partial, digest)
                return self._name(partial, digest, used)
            except BaseException:
                await in_thread(remove_tree, partial)
                raise

    def _unpack(self, tar: PlainTar, root: Path, digest: str) -> int:
        """Unpacks while it decompresses, and only then knows whether it was the right bundle."""
        try:
            used = unpack(tar, root, self._limits)
        except BundleRefused:
            if tar.digest() == digest:
                raise
        else:
            if tar.digest() == digest:
                return used
        raise BundleUnavailable(f"bundle {digest}: {tar.tell()} bytes with another digest came")

    async def _remove(self, doomed: Path) -> None:
        try:
            await in_thread(remove_tree, doomed)
        except OSError as error:
            log.warning("not removed", folder=str(doomed), error=str(error))

    def _restore(self, lock: IO[str]) -> None:
        """Takes over what an earlier process left; runs in a thread, before anything else."""
        lock.seek(0)
        boot = BOOT_ID.read_text() if BOOT_ID.exists() else ""
        # Nothing is synced to disk, so after a crash of the machine an entry may be hollow.
        trusted = lock.read() == boot
        found: list[tuple[float, str, _Entry]] = []
        for path in self._folder.iterdir():
            match = ENTRY.fullmatch(path.name)
            if match and trusted:
                entry = _Entry(path, int(match[2]))
                if self._mode != PRIVATE:
                    self._close(entry)
                found.append((path.stat().st_mtime, match[1], entry))
            elif match or path.name.startswith((TEMPORARY, PREFIX)):
                remove_tree(path)
        if self._compiled is not None:
            self._compiled.restore({entry.folder.name for _, _, entry in found})
        for _, digest, entry in sorted(found, key=lambda one: one[:2]):
            self._entries[digest] = entry
            self._size += entry.size
        lock.seek(0)
        lock.truncate()
        lock.write(boot)
        lock.flush()
