"""What one write does to the databases, inside the writer's transaction.

Each method checks all that it may refuse before it changes anything: see `writer`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import lmdb
from sanfran_proto.sanfran import v1 as pb

from sanfran_api.errors import NotFound, check_version, name_taken
from sanfran_api.store import records
from sanfran_api.store.environment import SchemaMismatch
from sanfran_api.store.records import BundleRow, Change, Head

HISTORY = 10_000
"""Changes kept for watchers that come back. One that missed more gets everything anew."""

Revise = Callable[[pb.FunctionVersion], pb.FunctionVersion]


@dataclass(frozen=True, slots=True)
class Packed:
    """A bundle on its way into the store.

    Args:
        content: all of it; None when its chunks were staged before.
    """

    digest: bytes
    size: int
    content: bytes | None


@dataclass(frozen=True, slots=True)
class Stored:
    """A version as it was stored, and the revision that this made."""

    version: pb.FunctionVersion
    revision: int


class Tables:
    """The databases within one write transaction."""

    def __init__(
        self, txn: lmdb.Transaction[bytes], databases: Mapping[str, Any], keep_versions: int
    ) -> None:
        self._txn = txn
        self._db = databases
        self._keep = keep_versions

    def prepare(self) -> None:
        """Makes a fresh store usable, or checks that this one is.

        Raises:
            SchemaMismatch: a newer service wrote it.
        """
        raw = self._get("meta", b"schema")
        if raw is None:
            self._put("meta", b"schema", records.u64(records.SCHEMA))
            # Not zero: a controller that knew a store which was lost would take this one for its
            # continuation. No store makes a million changes per second, so a clock in
            # microseconds stays ahead of whatever was there before.
            self._put("meta", b"revision", records.u64(time.time_ns() // 1000))
        elif (found := records.read_u64(raw)) > records.SCHEMA:
            raise SchemaMismatch(
                f"the store has schema {found}, this service reads up to {records.SCHEMA}; "
                "start the newer sanfran-api that wrote it, or another data folder with --data"
            )

    def create(self, version: pb.FunctionVersion, bundle: Packed) -> Stored:
        """Adds a function.

        Raises:
            AlreadyExists: the name is taken.
        """
        if self._get("functions", version.name.encode()) is not None:
            raise name_taken(version.name)
        return self._store(version, bundle.digest, bundle)

    def update(self, name: str, revise: Revise, bundle: Packed | None) -> Stored:
        """Adds a version to a function.

        Args:
            revise: makes the new version from the current one; may refuse.
            bundle: None keeps the current one.

        Raises:
            NotFound: there is no such function.
        """
        head = self._head(name)
        raw = self._get("versions", records.version_key(name, head.version))
        assert raw is not None, f"{name} has no version {head.version}"
        current = pb.FunctionVersion.parse(raw)
        version = revise(current)
        digest = bundle.digest if bundle else bytes.fromhex(current.digest)
        return self._store(version, digest, bundle)

    def delete(self, name: str, of_version: int | None = None) -> int:
        """Removes a function and its versions; returns the revision that this made.

        Raises:
            NotFound: there is no such function.
            VersionChanged: it is not at `of_version`.
        """
        check_version(name, self._head(name).version, of_version)
        self._drop_versions(name, None)
        self._txn.delete(name.encode(), db=self._db["functions"])
        return self._change(Change(name, None))

    def has_bundle(self, digest: bytes) -> bool:
        """Whether the bundle is there, complete."""
        return self._get("bundles", digest) is not None

    def put_chunks(self, digest: bytes, first: int, content: bytes) -> None:
        """Writes a part of a bundle, from the chunk numbered `first`."""
        view = memoryview(content)
        for number, at in enumerate(range(0, len(view), records.CHUNK_BYTES), start=first):
            key = records.chunk_key(digest, number)
            self._put("chunks", key, view[at : at + records.CHUNK_BYTES])

    def seal_bundle(self, digest: bytes, size: int) -> None:
        """Marks a bundle as complete, unless it was."""
        if not self.has_bundle(digest):
            self._put("bundles", digest, records.bundle(BundleRow(size, 0)))

    def note_unreferenced(self, digest: bytes) -> None:
        """Lets `sweep` look at a bundle once its time of grace is over."""
        now = time.time_ns() // 1_000_000
        self._put("unreferenced", records.u64(now) + digest, b"")

    def sweep(self, before_ms: int, in_use: Iterable[bytes], most: int) -> int:
        """Removes bundles that no version needs.

        Args:
            before_ms: only those that were noted before, in ms since 1970.
            in_use: digests that are being written or read.
            most: how many at once.

        Returns:
            How many notes it has dealt with; less than `most` when no more were due.
        """
        due: list[tuple[bytes, bytes]] = []
        held = set(in_use)
        with self._txn.cursor(db=self._db["unreferenced"]) as cursor:
            for key in cursor.iternext(keys=True, values=False):
                if records.read_u64(key[:8]) >= before_ms or len(due) >= most:
                    break
                if key[8:] not in held:
                    due.append((key, key[8:]))
        for key, digest in due:
            raw = self._get("bundles", digest)
            if raw is None or not records.read_bundle(raw).references:
                self._remove_bundle(digest)
            self._txn.delete(key, db=self._db["unreferenced"])
        return len(due)

    def _store(self, version: pb.FunctionVersion, digest: bytes, bundle: Packed | None) -> Stored:
        name = version.name
        row = self._adopt(digest, bundle)
        last = self._get("numbers", name.encode())
        number = (records.read_u64(last) if last else 0) + 1
        version = replace_version(version, number, digest, row.size)
        self._put("numbers", name.encode(), records.u64(number))
        self._put("versions", records.version_key(name, number), bytes(version))
        self._drop_versions(name, number - self._keep)
        revision = self._change(Change(name, number))
        self._put("functions", name.encode(), records.head(Head(number, revision)))
        return Stored(version, revision)

    def _adopt(self, digest: bytes, bundle: Packed | None) -> BundleRow:
        """Adds one reference to a bundle, which it writes if it is not there."""
        raw = self._get("bundles", digest)
        if raw is not None:
            row = records.read_bundle(raw)
        else:
            assert bundle is not None, "a current version has its bundle"
            assert bundle.content is not None, "a large bundle is staged and held before"
            self.put_chunks(digest, 0, bundle.content)
            row = BundleRow(bundle.size, 0)
        row = replace(row, references=row.references + 1)
        self._put("bundles", digest, records.bundle(row))
        return row

    def _drop_versions(self, name: str, up_to: int | None) -> None:
        """Removes versions up to a number, or all of them."""
        prefix = records.version_prefix(name)
        dropped: list[bytes] = []
        with self._txn.cursor(db=self._db["versions"]) as cursor:
            found = cursor.set_range(prefix)
            while found and cursor.key().startswith(prefix):
                if up_to is not None and records.read_u64(cursor.key()[len(prefix) :]) > up_to:
                    break
                dropped.append(cursor.value())
                found = cursor.delete()
        for raw in dropped:
            self._release(bytes.fromhex(pb.FunctionVersion.parse(raw).digest))

    def _release(self, digest: bytes) -> None:
        raw = self._get("bundles", digest)
        assert raw is not None, "a version has its bundle"
        row = records.read_bundle(raw)
        row = replace(row, references=row.references - 1)
        self._put("bundles", digest, records.bundle(row))
        if not row.references:
            self.note_unreferenced(digest)

    def _remove_bundle(self, digest: bytes) -> None:
        self._txn.delete(digest, db=self._db["bundles"])
        with self._txn.cursor(db=self._db["chunks"]) as cursor:
            found = cursor.set_range(digest)
            while found and cursor.key().startswith(digest):
                found = cursor.delete()

    def _change(self, change: Change) -> int:
        raw = self._get("meta", b"revision")
        assert raw is not None, "prepare has run"
        revision = records.read_u64(raw) + 1
        self._put("meta", b"revision", records.u64(revision))
        self._put("changes", records.u64(revision), records.change(change))
        with self._txn.cursor(db=self._db["changes"]) as cursor:
            found = cursor.first()
            while found and records.read_u64(cursor.key()) <= revision - HISTORY:
                found = cursor.delete()
        return revision

    def _head(self, name: str) -> Head:
        raw = self._get("functions", name.encode())
        if raw is None:
            raise NotFound(f"there is no function {name!r}")
        return records.read_head(raw)

    def _get(self, database: str, key: bytes) -> bytes | None:
        return self._txn.get(key, db=self._db[database])

    def _put(self, database: str, key: bytes, value: bytes | memoryview) -> None:
        self._txn.put(key, value, db=self._db[database])


def replace_version(
    version: pb.FunctionVersion, number: int, digest: bytes, size: int
) -> pb.FunctionVersion:
    """The version with what only the store knows."""
    return replace(version, version=number, digest=digest.hex(), bundle_bytes=size)
