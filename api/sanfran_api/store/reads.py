"""What is read from the store: short reads on the event loop, each of one moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import lmdb
from sanfran_proto.sanfran import v1 as pb

from sanfran_api.errors import NotFound
from sanfran_api.store import records
from sanfran_api.store.environment import Environment
from sanfran_api.store.sealing import Sealing
from sanfran_api.store.vault import Vault


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
class Page:
    """Functions by name, each with the revision of its last change.

    Args:
        next_after: where the next page begins; empty on the last one.
    """

    functions: list[tuple[pb.FunctionVersion, int]]
    next_after: str


class Reads:
    """The part of `Store` that only looks. Nothing is awaited in it.

    Args:
        vault: opens secrets.
    """

    _environment: Environment
    """Open from the beginning to the end of the store's `async with`."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._reading: Counter[bytes] = Counter()

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
