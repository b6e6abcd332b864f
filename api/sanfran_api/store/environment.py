"""One LMDB environment: its lock, its schema version, and a map that grows.

LMDB allows a map to be resized only while no transaction of the process uses it. Readers here are
short and hold a lock for as long as they read; the one writer resizes between its transactions,
under the same lock. The lock is free nearly always: one writer and one event loop share it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import lmdb
from sanfran_common.lifecycle import CannotStart
from sanfran_common.telemetry.logs import get_logger

from sanfran_api.disk import NO_ROOM, store_full
from sanfran_api.errors import ApiError, StoreFailed, StoreFull

T = TypeVar("T")
log = get_logger("store")

FIRST_MAP_BYTES = 64 * 1024 * 1024
"""Address space, not disk: the file grows with what is written."""
LARGEST_STEP = 1024 * 1024 * 1024
RESERVE_BYTES = 4 * 1024 * 1024
"""Room beyond the limit for writes that free more than they take: LMDB copies pages to delete."""
FULL = NO_ROOM | {errno.EIO}
"""EIO too: LMDB reports a write that the disk took in part as EIO (mdb_page_flush)."""


class StoreInUse(CannotStart):
    """Another process has the store open."""


class SchemaMismatch(CannotStart):
    """The store was written by another version of the service."""


class Environment:
    """Opens the store's file in a folder, for this process alone.

    Args:
        folder: of the store.
        databases: names of the databases in it.
        limit: bytes that the map grows to at most.

    Raises:
        StoreInUse: another process has it.
    """

    def __init__(self, folder: Path, databases: tuple[str, ...], limit: int) -> None:
        self._lock_file = _lock(folder / "lock")
        self._limit = limit
        self._map_lock = threading.Lock()
        place = folder / "store"
        try:
            # Not left to LMDB, which gives a folder the mode of its files: nobody but root could enter it.
            place.mkdir(exist_ok=True)
            place.chmod(0o700)
            self._place = place
            self._names = databases
            self.databases: dict[str, Any] = {}
            self._open()
        except lmdb.Error as error:
            os.close(self._lock_file)
            raise _translate(error) from error
        except BaseException:
            os.close(self._lock_file)
            raise

    def _open(self) -> None:
        self._env = lmdb.open(
            str(self._place),
            map_size=min(FIRST_MAP_BYTES, self._limit),
            max_dbs=len(self._names),
            mode=0o600,
        )
        self.databases |= {name: self._env.open_db(name.encode()) for name in self._names}

    def exchange(self, file: Path) -> None:
        """Puts another store's file in the place of this one's, at once. For the writer's thread.

        Args:
            file: on the same disk, closed; gone afterwards.

        Raises:
            OSError: it cannot be moved. Nothing has changed.
            lmdb.PanicError: it is in place and does not open.
        """
        with self._map_lock, opening(self._place.parent, alone=True):
            self._env.close()
            try:
                # Who reads the former file for a backup has the former locks, and must keep them.
                (self._place / "lock.mdb").unlink(missing_ok=True)
                os.replace(file, self._place / "data.mdb")
                _sync(self._place)
            finally:
                try:
                    self._open()
                except lmdb.Error as error:
                    raise lmdb.PanicError(str(error)) from error

    def forget_dead_readers(self) -> None:
        """Lets pages be used again that a process read which was killed."""
        with self._map_lock:
            self._env.reader_check()

    def close(self) -> None:
        """Closes the file and lets others have it. No transaction may be open."""
        self._env.close()
        os.close(self._lock_file)

    @contextmanager
    def read(self) -> Iterator[lmdb.Transaction[bytes]]:
        """A short read: nothing may be awaited inside.

        Raises:
            StoreFailed: the file cannot be read.
        """
        with self._map_lock:
            try:
                with self._env.begin() as txn:
                    yield txn
            except lmdb.MapResizedError:
                self._env.set_mapsize(0)  # another tool grew it: the next read sees all of it
                raise StoreFailed("the store was resized by another process; try again") from None
            except lmdb.Error as error:
                raise StoreFailed(f"the store cannot be read: {error}") from error

    def write(self, work: Callable[[lmdb.Transaction[bytes]], T], *, frees: bool = False) -> T:
        """Runs one write transaction and returns when it is on the disk. For the writer's thread.

        Args:
            work: may run more than once, each time in a fresh transaction.
            frees: it takes less than it gives back, and may pass the limit a little.

        Raises:
            StoreFull: no room on the disk or below the limit. Nothing was written.
            StoreFailed: anything else that LMDB says. Nothing was written.
        """
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    return work(txn)
            except lmdb.MapFullError as error:
                self._grow(frees, error)
            except lmdb.MapResizedError:
                with self._map_lock:
                    self._env.set_mapsize(0)
            except lmdb.PanicError:
                raise
            except lmdb.Error as error:
                raise _translate(error) from error

    @property
    def map_size(self) -> int:
        """Bytes of address space that the map has now."""
        return self._env.info()["map_size"]

    def _grow(self, frees: bool, error: lmdb.MapFullError) -> None:
        size = self.map_size
        if size < self._limit:
            wanted = min(size + min(size, LARGEST_STEP), self._limit)
        elif frees:
            wanted = size + RESERVE_BYTES
        else:
            raise StoreFull(
                f"the store is at its limit of {self._limit} bytes; nothing was stored. "
                "Delete functions, or raise --max-store-bytes"
            ) from error
        with self._map_lock:
            self._env.set_mapsize(wanted)
        log.info("store map grown", bytes=wanted)


def _translate(error: lmdb.Error) -> ApiError:
    code = getattr(error, "code", 0)  # only errors that came from LMDB's C code have one
    return store_full(code) if code in FULL else StoreFailed(f"the store: {error}")


@contextmanager
def opening(folder: Path, *, alone: bool = False) -> Iterator[None]:
    """Held while the store's files are opened, and alone while they are exchanged."""
    descriptor = os.open(folder / "opening", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise StoreInUse(
            f"{path.parent}: another sanfran-api has this data folder open; "
            "stop that one, or choose another folder with --data"
        ) from None
    return descriptor
