"""The one thread that writes. Writes that wait at the same time share one transaction and one fsync.

A write is a function of the transaction. It may refuse (raise `ApiError`) only before its first
change, so that a refusal costs the others nothing. If anything else goes wrong, the transaction is
dropped and each write of it runs again in one of its own: only those that cannot succeed fail.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar, cast

import lmdb

from sanfran_api.errors import ApiError, Busy, StoreFailed
from sanfran_api.metrics import COMMIT_SECONDS, COMMIT_WRITES
from sanfran_api.store.environment import Environment

T = TypeVar("T")
Work = Callable[["lmdb.Transaction[bytes]"], T]

MAX_WAITING = 4096
"""Writes that wait for the thread; each may hold a small bundle in memory."""
MAX_BATCH = 256
MAX_BATCH_BYTES = 16 * 1024 * 1024
"""LMDB keeps a transaction's pages in memory until it commits."""


@dataclass(slots=True)
class _Write:
    work: Work[Any]
    weight: int
    frees: bool
    alone: Callable[[], Any] | None = None
    done: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class _Refused:
    error: ApiError


class Writer:
    """Runs writes in order, in batches.

    Args:
        committed: called on the event loop after each commit that may have changed something,
            before those who asked for it learn of it.
    """

    def __init__(self, environment: Environment, committed: Callable[[], None]) -> None:
        self._environment = environment
        self._committed = committed
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        # Not daemonic: the end of the process waits for a commit that is under way.
        self._thread = threading.Thread(target=self._run, name="store-writer")
        self._thread.start()

    async def close(self) -> None:
        """Finishes what was asked for, then ends the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._broken.cancel()

    async def broken(self) -> None:
        """Waits until LMDB has given up on the file, which only reopening it can heal.

        Raises:
            StoreFailed: it has.
        """
        await asyncio.shield(self._broken)

    async def run(self, work: Work[T], *, weight: int = 1024, frees: bool = False) -> T:
        """Runs a write and returns its result once it is on the disk.

        Cancelled while it waits, the write is dropped; later, it is done all the same.

        Args:
            weight: bytes that it writes, about.
            frees: it takes less room than it gives back.

        Raises:
            Busy: too many writes wait.
            StoreFull, StoreFailed: it was not written.
            ApiError: what the write itself refused.
        """
        return cast("T", await asyncio.wrap_future(self.post(work, weight=weight, frees=frees)))

    async def run_alone(self, work: Callable[[], T]) -> T:
        """Runs what is no transaction in the writer's thread, between transactions.

        Raises:
            Busy: too many writes wait.
        """
        future: Future[T] = self._enqueue(_Write(lambda txn: None, 0, False, alone=work))
        return cast("T", await asyncio.wrap_future(future))

    def post(self, work: Work[T], *, weight: int = 1024, frees: bool = False) -> Future[T]:
        """As `run`, for those who need not wait."""
        return self._enqueue(_Write(work, weight, frees))

    def _enqueue(self, write: _Write) -> Future[Any]:
        if self._queue.qsize() >= MAX_WAITING:
            raise Busy("too many writes wait for the disk; try again in a moment")
        if self._broken.done():
            raise StoreFailed("the store has to be opened again; the service restarts")
        self._queue.put(write)
        return write.done

    def _run(self) -> None:
        while True:
            batch, ended = self._next_batch()
            for alone, writes in groupby(batch, key=lambda write: write.alone is not None):
                if alone:
                    for write in writes:
                        self._commit([write])
                else:
                    self._commit(list(writes))
            if ended:
                return

    def _next_batch(self) -> tuple[list[_Write], bool]:
        """Waits for a write, then takes what else has come meanwhile."""
        batch: list[_Write] = []
        weight = 0
        write = self._queue.get()
        while write is not None:
            if write.done.set_running_or_notify_cancel():
                batch.append(write)
                weight += write.weight
            if len(batch) >= MAX_BATCH or weight >= MAX_BATCH_BYTES:
                return batch, False
            try:
                write = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: list[_Write]) -> None:
        started = time.perf_counter()
        try:
            if (alone := batch[0].alone) is not None:
                results = [alone()]
            else:
                results = self._environment.write(
                    lambda txn: [_attempt(write, txn) for write in batch],
                    frees=all(write.frees for write in batch),
                )
        except lmdb.PanicError as error:
            self._give_up(batch, error)
        except Exception as error:  # noqa: BLE001  # whatever it was, it is the answer to those who asked
            if len(batch) > 1:
                for write in batch:
                    self._commit([write])
            else:
                batch[0].done.set_exception(error)
        else:
            COMMIT_SECONDS.observe(time.perf_counter() - started)
            COMMIT_WRITES.observe(len(batch))
            self._loop.call_soon_threadsafe(self._committed)
            for write, result in zip(batch, results, strict=True):
                if isinstance(result, _Refused):
                    write.done.set_exception(result.error)
                else:
                    write.done.set_result(result)

    def _give_up(self, batch: list[_Write], error: lmdb.PanicError) -> None:
        failure = StoreFailed(f"the store has to be opened again: {error}")
        for write in batch:
            write.done.set_exception(failure)
        self._loop.call_soon_threadsafe(self._break, failure)

    def _break(self, failure: StoreFailed) -> None:
        if not self._broken.done():
            self._broken.set_exception(failure)


def _attempt(write: _Write, txn: lmdb.Transaction[bytes]) -> Any:
    try:
        return write.work(txn)
    except ApiError as refusal:
        return _Refused(refusal)
