"""The store as the service uses it: short reads on the event loop, writes through the writer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import lmdb
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_api.bundles.pack import IN_MEMORY_BYTES, Bundle
from sanfran_api.errors import Busy, NotFound, StoreFull
from sanfran_api.store import records
from sanfran_api.store.environment import Environment
from sanfran_api.store.migrations import bring_up_to_date
from sanfran_api.store.sealing import Sealing
from sanfran_api.store.transactions import GoBack, Known, Packed, Revise, Stored, Tables
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
class History:
    """Changes after a revision, in order.

    Args:
        events: those that still matter; a version that is gone again has none.
        up_to: the revision that these lead to.
        more: there are further ones.
    """

    events: list[pb.FunctionEvent]
    up_to: int
    more: bool


@dataclass(frozen=True, slots=True)
class Rotated:
    """How many secrets were sealed anew, and the id of the key that all are sealed with now."""

    rotated: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Functions by name, each with the revision of its last change.

    Args:
        next_after: where the next page begins; empty on the last one.
    """

    functions: list[tuple[pb.FunctionVersion, int]]
    next_after: str


class Store:
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
        self._folder = folder
        self._limit = limit
        self._keep = keep_versions
        self._vault = vault
        self._changed = changed
        self._applied = applied
        self._clock = clock
        # Bundles on their way in. Added in the writer's thread, where sweeps run too: a sweep
        # comes before (and the upload finds the bundle gone) or after (and leaves it alone).
        self._staging: dict[object, bytes] = {}
        self._reading: Counter[bytes] = Counter()
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

    # Reads

    @property
    def revision(self) -> int:
        """Of the last change."""
        with self._environment.read() as txn:
            return self._revision(txn)

    def get(self, name: str, *, reveal: bool = False) -> pb.FunctionVersion:
        """A function's current version.

        Args:
            reveal: with the values of its secrets, for services.

        Raises:
            NotFound: there is no such function.
        """
        # LMDB refuses empty keys; longer ones cannot be names anyway.
        with self._environment.read() as txn:
            raw = self._txn_get(txn, "functions", name.encode()[:64]) if name else None
            if raw is not None:
                return self._version(txn, name, records.read_head(raw).version, reveal)
        raise NotFound(f"there is no function {name[:80]!r}")

    def versions(self, name: str) -> list[pb.FunctionVersion]:
        """The versions of a function that are kept, the newest first.

        Raises:
            NotFound: there is no such function.
        """
        self.get(name)
        prefix = records.version_prefix(name)
        with (
            self._environment.read() as txn,
            txn.cursor(db=self._environment.databases["versions"]) as cursor,
        ):
            found = cursor.set_range(prefix)
            raws: list[bytes] = []
            while found and cursor.key().startswith(prefix):
                raws.append(cursor.value())
                found = cursor.next()
        return [records.read_version(raw) for raw in reversed(raws)]

    def page(self, after: str, limit: int, *, reveal: bool = False) -> Page:
        """Functions whose names are greater than `after`, in order.

        Args:
            reveal: with the values of their secrets, for services.
        """
        found: list[tuple[pb.FunctionVersion, int]] = []
        start = after.encode()[:64]
        with (
            self._environment.read() as txn,
            txn.cursor(db=self._environment.databases["functions"]) as cursor,
        ):
            more = cursor.set_range(start) if start else cursor.first()
            if more and cursor.key() == start:
                more = cursor.next()
            while more and len(found) < limit:
                name, head = cursor.key().decode(), records.read_head(cursor.value())
                found.append((self._version(txn, name, head.version, reveal), head.revision))
                more = cursor.next()
        return Page(found, found[-1][0].name if more and found else "")

    def history(self, after: int, limit: int) -> History | None:
        """Changes after a revision.

        Returns:
            None when the store does not remember that far back, or never was at that revision.
        """
        with self._environment.read() as txn:
            current = self._revision(txn)
            if after == current:
                return History([], current, False)
            with txn.cursor(db=self._environment.databases["changes"]) as cursor:
                if after > current or not cursor.set_key(records.u64(after + 1)):
                    return None
                events: list[pb.FunctionEvent] = []
                revision = after
                for key, value in cursor.iternext():
                    if revision - after >= limit:
                        break
                    revision = records.read_u64(key)
                    event = self._event(txn, revision, records.read_change(value))
                    if event is not None:
                        events.append(event)
        return History(events, revision, revision < current)

    def _stored_bytes(self, digest: bytes) -> int:
        """Bytes of a bundle's chunks.

        Raises:
            NotFound: there is no such bundle.
        """
        with self._environment.read() as txn:
            raw = self._txn_get(txn, "bundles", digest) if len(digest) == 32 else None
        if raw is None:
            raise NotFound(f"there is no bundle {digest.hex()[:64]}")
        return records.read_bundle(raw).stored

    def bundle_chunks(self, digest: bytes) -> Generator[bytes, None, None]:
        """The content of a bundle as it is kept, one short read per chunk. Close it when it is not used up.

        Raises:
            NotFound: there is no such bundle (any more).
        """
        left = self._stored_bytes(digest)
        self._reading[digest] += 1
        try:
            number = 0
            while left:
                with self._environment.read() as txn:
                    chunk = self._txn_get(txn, "chunks", records.chunk_key(digest, number))
                if chunk is None:
                    raise NotFound(f"the bundle {digest.hex()} is gone")
                left -= len(chunk)
                number += 1
                yield chunk
        finally:
            self._reading[digest] -= 1
            if not self._reading[digest]:
                del self._reading[digest]

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

    def _tables(self, txn: lmdb.Transaction[bytes], applied: int) -> Tables:
        return Tables(
            txn,
            self._environment.databases,
            self._vault,
            keep_versions=self._keep,
            applied=applied,
        )

    def _sealing(self, txn: lmdb.Transaction[bytes]) -> Sealing:
        return Sealing(txn, self._environment.databases, self._vault)

    def _txn_get(self, txn: lmdb.Transaction[bytes], database: str, key: bytes) -> bytes | None:
        db: Any = self._environment.databases[database]
        return txn.get(key, db=db)

    def _revision(self, txn: lmdb.Transaction[bytes]) -> int:
        raw = self._txn_get(txn, "meta", b"revision")
        assert raw is not None, "prepare has run"
        return records.read_u64(raw)

    def _version(
        self, txn: lmdb.Transaction[bytes], name: str, version: int, reveal: bool
    ) -> pb.FunctionVersion:
        raw = self._txn_get(txn, "versions", records.version_key(name, version))
        assert raw is not None, f"{name} has no version {version}"
        found = records.read_version(raw)
        return self._sealing(txn).reveal(found) if reveal else found

    def _event(
        self, txn: lmdb.Transaction[bytes], revision: int, change: records.Change
    ) -> pb.FunctionEvent | None:
        if change.version is None:
            return pb.FunctionEvent(revision=revision, deleted=change.name)
        raw = self._txn_get(txn, "versions", records.version_key(change.name, change.version))
        if raw is None:
            return None
        found = records.read_version(raw)
        return pb.FunctionEvent(revision=revision, put=self._sealing(txn).reveal(found))
