"""The store as the service uses it: short reads on the event loop, writes through the writer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import lmdb
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_api.bundles.pack import IN_MEMORY_BYTES, Bundle
from sanfran_api.errors import Busy, StoreFull
from sanfran_api.store import records
from sanfran_api.store.environment import Environment
from sanfran_api.store.migrations import bring_up_to_date
from sanfran_api.store.reads import Reads
from sanfran_api.store.transactions import UNKNOWN, GoBack, Known, Packed, Revise, Stored, Tables
from sanfran_api.store.vault import Vault
from sanfran_api.store.writer import Writer

log = get_logger("store")

INLINE_BYTES = IN_MEMORY_BYTES
"""Bundles up to this size share the transaction, and so the fsync, of their version."""
STAGE_CHUNKS = 16
"""Chunks of a larger bundle per write (4 MiB), so that small writes pass in between."""
GRACE_SECONDS = 300.0
"""How long a bundle outlives its last version: pods may be fetching it."""
SWEEP_EVERY = 30.0
SWEEP_AT_ONCE = 8
ROTATE_AT_ONCE = 200
"""Versions whose secrets one write seals anew; some milliseconds."""
SNAPSHOT_NAMES = 1000
"""Names read at once; a millisecond or two, in which nobody else reads."""
EVERYTHING = (1 << 64) - 1
"""A revision that none is beyond."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """How many secrets were sealed anew, and the id of the key that all are sealed with now."""

    rotated: int
    key: bytes


class Store(Reads):
    """Opens the store in a folder while its `async with` lasts.

    Args:
        folder: of the store.
        limit: bytes that it may grow to.
        keep_versions: of each function.
        vault: seals secrets.
        changed: called on the event loop after each commit, before its writers go on.
        applied: the revision up to which every controller has carried out what changed.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limit: int,
        keep_versions: int,
        vault: Vault,
        changed: Callable[[], None],
        applied: Callable[[], int] = lambda: EVERYTHING,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(vault)
        self._folder = folder
        self._limit = limit
        self._keep = keep_versions
        self._changed = changed
        self._applied = applied
        self._clock = clock
        # Bundles on their way in. Added in the writer's thread, where sweeps run too: a sweep
        # comes before (and the upload finds the bundle gone) or after (and leaves it alone).
        self._staging: dict[object, bytes] = {}
        self._generation = 0
        self._occupied = False

    async def __aenter__(self) -> Self:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.scratch.mkdir(mode=0o700, exist_ok=True)
        self._environment = Environment(self._folder, records.DATABASES, self._limit)
        try:
            self._environment.write(lambda txn: bring_up_to_date(txn, self._environment.databases))
            with self._environment.read() as txn:
                self._vault.prepare(self._sealing(txn).keys())
        except BaseException:
            self._environment.close()
            raise
        self._writer = Writer(self._environment, self._changed)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._writer.close()
        finally:
            self._environment.close()

    @property
    def scratch(self) -> Path:
        """A folder for temporary files, on the same disk."""
        return self._folder / "tmp"

    async def run(self) -> None:
        """Sweeps bundles away that nobody needs, until the store breaks.

        Raises:
            StoreFailed: LMDB has given up on the file.
        """
        while True:
            try:
                async with asyncio.timeout(SWEEP_EVERY):
                    await self._writer.broken()
            except TimeoutError:
                pass
            try:
                await self.sweep()
            except (StoreFull, Busy) as error:
                log.warning("bundles not swept", error=str(error))

    # Writes

    async def create(self, version: pb.FunctionVersion, bundle: Bundle) -> Stored:
        """Stores a new function; see `Tables.create` and `Writer.run` for what it raises."""
        async with self._staged(bundle) as packed:
            weight = packed.stored if packed.content else 1024
            applied = self._applied()
            return await self._writer.run(
                lambda txn: self._tables(txn, applied).create(version, packed), weight=weight
            )

    async def update(
        self, name: str, revise: Revise, bundle: Bundle | None, *, unless_same: bool = False
    ) -> Stored:
        """Stores a new version; `revise` runs in the writer's thread. See `Tables.update`."""
        if bundle is None:
            applied = self._applied()
            return await self._writer.run(
                lambda txn: self._tables(txn, applied).update(
                    name, revise, None, unless_same=unless_same
                )
            )
        async with self._staged(bundle) as packed:
            weight = packed.stored if packed.content else 1024
            applied = self._applied()
            return await self._writer.run(
                lambda txn: self._tables(txn, applied).update(name, revise, packed), weight=weight
            )

    def try_create(self, version: pb.FunctionVersion) -> pb.FunctionVersion:
        """What `create` would store now, of unknown code; raises what it would. Stores nothing."""
        with self._environment.read() as txn:
            return self._tables(txn, 0, dry_run=True).create(version, UNKNOWN).version

    def try_update(
        self, name: str, revise: Revise, *, new_code: bool, unless_same: bool = False
    ) -> pb.FunctionVersion:
        """What `update` would store now; raises what it would. Stores nothing.

        Args:
            new_code: it is unknown; else the present code stays.
        """
        bundle = UNKNOWN if new_code else None
        with self._environment.read() as txn:
            tables = self._tables(txn, 0, dry_run=True)
            return tables.update(name, revise, bundle, unless_same=unless_same).version

    async def go_back(self, name: str, number: int | None, revise: GoBack) -> Stored:
        """Stores a version like an older one; see `Tables.go_back`."""
        applied = self._applied()
        return await self._writer.run(
            lambda txn: self._tables(txn, applied).go_back(name, number, revise)
        )

    async def rotate(self) -> Rotated:
        """Seals every secret anew with the first key of the vault, which is read again before.

        Interrupted and repeated it does what is left.

        Raises:
            KeyRefused: the file of keys cannot be used, or a secret does not open.
            Busy: this is under way, or a restore is.
        """
        with self.alone():
            with self._environment.read() as txn:
                needed = self._sealing(txn).keys()
            await asyncio.to_thread(self._vault.reload, needed)
            total = 0
            after: bytes | None = b""
            while after is not None:
                changed, after = await self._writer.run(
                    lambda txn, after=after: self._sealing(txn).rotate(after, ROTATE_AT_ONCE)  # type: ignore[misc]  # a bound default
                )
                total += changed
            await self._writer.run(lambda txn: self._sealing(txn).forget_keys())
        return Rotated(total, self._vault.current)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For what must not meet itself or its like.

        Raises:
            Busy: something of the kind is under way.
        """
        if self._occupied:
            raise Busy("a restore or a rotation of keys is under way; try again when it is done")
        self._occupied = True
        try:
            yield
        finally:
            self._occupied = False

    async def delete(self, name: str, *, of_version: int | None = None) -> int:
        """Removes a function; returns the revision that this made."""
        applied = self._applied()
        return await self._writer.run(
            lambda txn: self._tables(txn, applied).delete(name, of_version), frees=True
        )

    async def sweep(self) -> None:
        """Removes the bundles whose time of grace is over."""
        before = int((self._clock() - GRACE_SECONDS) * 1000)
        after: bytes | None = b""
        while after is not None:
            reading, applied = frozenset(self._reading), self._applied()
            after = await self._writer.run(
                lambda txn, after=after, reading=reading, applied=applied: self._tables(  # type: ignore[misc]  # bound defaults
                    txn, applied
                ).sweep(after, before, {*reading, *self._staging.values()}, SWEEP_AT_ONCE),
                frees=True,
            )

    @asynccontextmanager
    async def _staged(self, bundle: Bundle) -> AsyncIterator[Packed]:
        """Brings a large bundle into the store before its version refers to it.

        What a failure leaves behind, `sweep` finds.
        """
        digest, size, stored = bundle.digest, bundle.size, bundle.stored
        if stored <= INLINE_BYTES:
            yield Packed(digest, size, stored, bundle.content.read())  # in memory already
            return
        token = object()

        def begin(txn: lmdb.Transaction[bytes]) -> bool:
            self._staging[token] = bundle.digest
            tables = self._tables(txn, 0)
            if tables.has_bundle(bundle.digest):
                return False
            tables.note_unreferenced(bundle.digest)
            return True

        try:
            generation = self._generation
            if await self._writer.run(begin):
                await self._stage(bundle, generation)
            yield Packed(digest, size, stored, None)
        finally:
            self._staging.pop(token, None)

    def lacking_keys(self, needed: Iterable[bytes]) -> list[str]:
        """The ids of those keys that are not there."""
        return self._vault.lacks(needed)

    def forget_dead_readers(self) -> None:
        """Of processes that read the store's file and were killed."""
        self._environment.forget_dead_readers()

    async def replace(self, folder: Path, by: str) -> int:
        """Puts another store in the place of all that there is. Whoever calls holds `alone`.

        Args:
            folder: of the other one, of the present schema; it loses its file.
            by: who does it.

        Returns:
            The revision from which it goes on.
        """
        return await self._writer.run_alone(lambda: self._replace(folder, by))

    def _replace(self, folder: Path, by: str) -> int:
        known, own_revision = self._known()
        other = Environment(folder, records.DATABASES, self._limit)
        try:
            revision = other.write(
                lambda txn: Tables(
                    txn, other.databases, self._vault, keep_versions=self._keep, applied=EVERYTHING
                ).succeed(known, own_revision, by)
            )
        finally:
            other.close()
        self._generation += 1
        self._environment.exchange(folder / "store/data.mdb")
        return revision

    def _known(self) -> tuple[dict[str, Known], int]:
        """Every name that there ever was, read in pieces, and the present revision."""
        known: dict[str, Known] = {}
        after = b""
        while True:
            with self._environment.read() as txn:
                with txn.cursor(db=self._environment.databases["numbers"]) as cursor:
                    found = cursor.set_range(after) if after else cursor.first()
                    names: list[tuple[bytes, bytes]] = []
                    while found and len(names) < SNAPSHOT_NAMES:
                        names.append(cursor.item())
                        found = cursor.next()
                    after = cursor.key() if found else b""
                for key, number in names:
                    head = self._txn_get(txn, "functions", key)
                    current = head and self._txn_get(txn, "versions", key + b"\0" + head[:8])
                    message = records.without_revision(current) if current else None
                    known[key.decode()] = Known(records.read_u64(number), message)
                if not after:
                    return known, self._revision(txn)

    async def _stage(self, bundle: Bundle, generation: int) -> None:
        number = 0

        def check() -> None:
            if self._generation != generation:  # what came before lies in a store that is gone
                raise Busy("the store was restored meanwhile; send it again")

        def put(txn: lmdb.Transaction[bytes], number: int, part: bytes) -> None:
            check()
            self._tables(txn, 0).put_chunks(bundle.digest, number, part)

        def seal(txn: lmdb.Transaction[bytes]) -> None:
            check()
            self._tables(txn, 0).seal_bundle(bundle.digest, bundle.size, bundle.stored)

        while part := await asyncio.to_thread(
            bundle.content.read, STAGE_CHUNKS * records.CHUNK_BYTES
        ):
            await self._writer.run(
                lambda txn, number=number, part=part: put(txn, number, part),  # type: ignore[misc]  # bound defaults
                weight=len(part),
            )
            number += STAGE_CHUNKS
        await self._writer.run(seal)

    def _tables(
        self, txn: lmdb.Transaction[bytes], applied: int, *, dry_run: bool = False
    ) -> Tables:
        return Tables(
            txn,
            self._environment.databases,
            self._vault,
            keep_versions=self._keep,
            applied=applied,
            dry_run=dry_run,
        )
