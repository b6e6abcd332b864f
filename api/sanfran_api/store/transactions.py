"""What one write does to the databases, inside the writer's transaction.

Each method checks all that it may refuse before it changes anything: see `writer`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import lmdb
from sanfran_common.secret_values import without_values
from sanfran_proto.sanfran import v1 as pb

from sanfran_api.errors import Busy, NotFound, check_version, name_taken
from sanfran_api.store import records
from sanfran_api.store.records import BundleRow, Change, Head, Note
from sanfran_api.store.sealing import Sealing
from sanfran_api.store.vault import Vault

HISTORY = 10_000
"""Changes kept for watchers that come back. One that missed more gets everything anew."""

NOTES_AT_ONCE = 2000
"""Notes of unreferenced bundles that one write looks at."""

Revise = Callable[[pb.FunctionVersion], pb.FunctionVersion]
GoBack = Callable[[pb.FunctionVersion, pb.FunctionVersion], pb.FunctionVersion]


@dataclass(frozen=True, slots=True)
class Packed:
    """A bundle on its way into the store.

    Args:
        size: bytes of its tar.
        stored: bytes of its content.
        content: all of it; None when its chunks were staged before.
    """

    digest: bytes
    size: int
    stored: int
    content: bytes | None


UNKNOWN = Packed(b"", 0, 0, b"")
"""Code that nobody has packed: of a dry run."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A version as it was stored, and the revision that this made."""

    version: pb.FunctionVersion
    revision: int


@dataclass(frozen=True, slots=True)
class Known:
    """What a store knew of a name.

    Args:
        number: of the last version.
        current: the message of the current one; None when it was deleted.
    """

    number: int
    current: bytes | None


class Tables:
    """The databases within one write transaction.

    Args:
        keep_versions: of each function.
        applied: revision up to which every controller has carried out what changed: of what was
            current after that, some pod may need the bundle still.
        dry_run: `create` and `update` refuse and give what they would otherwise, and change nothing.
    """

    def __init__(
        self,
        txn: lmdb.Transaction[bytes],
        databases: Mapping[str, Any],
        vault: Vault,
        *,
        keep_versions: int,
        applied: int,
        dry_run: bool = False,
    ) -> None:
        self._txn = txn
        self._db = databases
        self._keep = keep_versions
        self._applied = applied
        self._dry_run = dry_run
        self.sealing = Sealing(txn, databases, vault)

    def create(self, version: pb.FunctionVersion, bundle: Packed) -> Stored:
        """Adds a function.

        Raises:
            AlreadyExists: the name is taken.
        """
        if self._get("functions", version.name.encode()) is not None:
            raise name_taken(version.name)
        return self._store(version, bundle.digest, bundle, None)

    def update(
        self, name: str, revise: Revise, bundle: Packed | None, *, unless_same: bool = False
    ) -> Stored:
        """Adds a version to a function.

        Args:
            revise: makes the new version from the current one; may refuse.
            bundle: None keeps the current one.
            unless_same: gives the current version when settings and secrets would be the same, and
                the bundle is kept.

        Raises:
            NotFound: there is no such function.
        """
        current = self._current(name)
        version = revise(current)
        if unless_same and bundle is None and self.sealing.has_settings(current, version):
            return Stored(current, self._head(name).revision)
        digest = bundle.digest if bundle else bytes.fromhex(current.digest)
        return self._store(version, digest, bundle, current.version)

    def go_back(self, name: str, number: int | None, revise: GoBack) -> Stored:
        """Adds a version that has the code, the settings and the secrets of an older one.

        Args:
            number: of the older one; None: the one before the current.
            revise: makes the new version from the current and the older one; may refuse.

        Raises:
            NotFound: there is no such function, or no such version (any more).
        """
        current = self._current(name)
        older = self._version(name, number) if number else self._before(name, current.version)
        if older is None:
            what = f"version {number}" if number else "older version"
            raise NotFound(
                f"{name} has no {what} (any more); `sanfran versions {name}` shows what is kept"
            )
        version = revise(current, older)
        return self._store(version, bytes.fromhex(older.digest), None, older.version)

    def succeed(self, known: Mapping[str, Known], revision: int, by: str) -> int:
        """Makes of this store, which comes from a backup, what follows on another one.

        No number of a version is given twice, and no revision: whoever knows the other store has to ask
        for everything anew, and finds a newer version of each function that differs.

        Args:
            known: each name that the other one ever knew.
            revision: of the other one.
            by: who restores it.

        Returns:
            The revision from which it goes on.
        """
        self._put("meta", b"revision", records.u64(max(revision, self._revision(), _clock())))
        with self._txn.cursor(db=self._db["functions"]) as cursor:
            functions = [(key.decode(), records.read_head(value)) for key, value in cursor]
        for name, head in functions:
            other = known.get(name)
            if other is None or other.number < head.version:
                continue
            current = self._get("versions", records.version_key(name, head.version))
            assert current is not None, f"{name} has no version {head.version}"
            if records.without_revision(current) != other.current:
                self._put("numbers", name.encode(), records.u64(other.number))
                self._again(records.read_version(current), by)
        for name, other in known.items():
            own = self._get("numbers", name.encode())
            if own is None or records.read_u64(own) < other.number:
                self._put("numbers", name.encode(), records.u64(other.number))
        self._txn.drop(self._db["changes"], delete=False)
        revision = self._revision() + 1
        self._put("meta", b"revision", records.u64(revision))
        return revision

    def _again(self, version: pb.FunctionVersion, by: str) -> None:
        fresh = replace(
            version,
            created_at_ms=_clock() // 1000,
            created_by=by,
            note=f"restored from version {version.version}",
        )
        self._store(fresh, bytes.fromhex(version.digest), None, version.version)

    def delete(self, name: str, of_version: int | None = None) -> int:
        """Removes a function and its versions; returns the revision that this made.

        Raises:
            NotFound: there is no such function.
            VersionChanged: it is not at `of_version`.
        """
        check_version(name, self._head(name).version, of_version)
        revision = self._change(Change(name, None))
        self._drop_versions(name, None)
        self._txn.delete(name.encode(), db=self._db["functions"])
        return revision

    def has_bundle(self, digest: bytes) -> bool:
        """Whether the bundle is there, complete."""
        return self._get("bundles", digest) is not None

    def put_chunks(self, digest: bytes, first: int, content: bytes) -> None:
        """Writes a part of a bundle, from the chunk numbered `first`."""
        view = memoryview(content)
        for number, at in enumerate(range(0, len(view), records.CHUNK_BYTES), start=first):
            key = records.chunk_key(digest, number)
            self._put("chunks", key, view[at : at + records.CHUNK_BYTES])

    def seal_bundle(self, digest: bytes, size: int, stored: int) -> None:
        """Marks a bundle as complete, unless it was."""
        if not self.has_bundle(digest):
            self._put("bundles", digest, records.bundle(BundleRow(size, 0, stored)))

    def note_unreferenced(self, digest: bytes) -> None:
        """Lets `sweep` look at a bundle once its time of grace is over."""
        now = time.time_ns() // 1_000_000
        self._put("unreferenced", digest, records.note(Note(now, self._revision())))

    def sweep(
        self, after: bytes, before_ms: int, in_use: Iterable[bytes], most: int
    ) -> bytes | None:
        """Removes bundles that no version needs, and no pod of a controller that is behind.

        Args:
            after: where the last call ended; empty at first.
            before_ms: only those that were noted before, in ms since 1970.
            in_use: digests that are being written or read.
            most: how many at once.

        Returns:
            Where to go on; None: that was all.
        """
        due: list[bytes] = []
        end: bytes | None = None
        held = set(in_use)
        with self._txn.cursor(db=self._db["unreferenced"]) as cursor:
            found = cursor.set_range(after) if after else cursor.first()
            looked_at = 0
            while found:
                digest, note = cursor.key(), records.read_note(cursor.value())
                if len(due) >= most or looked_at >= NOTES_AT_ONCE:
                    end = digest
                    break
                looked_at += 1
                if note.ms < before_ms and note.revision <= self._applied and digest not in held:
                    due.append(digest)
                found = cursor.next()
        for digest in due:
            self._remove_bundle(digest)
            self._txn.delete(digest, db=self._db["unreferenced"])
        return end

    def _store(
        self,
        version: pb.FunctionVersion,
        digest: bytes,
        bundle: Packed | None,
        secrets_of: int | None,
    ) -> Stored:
        name = version.name
        last = self._get("numbers", name.encode())
        number = (records.read_u64(last) if last else 0) + 1
        sealed = self.sealing.seal(version, number, secrets_of)  # may refuse: before any change
        if self._dry_run:
            size = bundle.size if bundle is not None else self._row(digest).size
            made = replace_version(without_values(version), number, digest, size)
            return Stored(made, self._revision())
        row = self._adopt(digest, bundle)
        version = replace_version(without_values(version), number, digest, row.size)
        revision = self._change(Change(name, number))
        self._put("numbers", name.encode(), records.u64(number))
        self._put("versions", records.version_key(name, number), records.version(revision, version))
        self.sealing.put(name, number, sealed)
        self._put("functions", name.encode(), records.head(Head(number, revision)))
        self._drop_versions(name, number - self._keep)
        return Stored(version, revision)

    def _adopt(self, digest: bytes, bundle: Packed | None) -> BundleRow:
        """Adds one reference to a bundle, which it writes if it is not there."""
        raw = self._get("bundles", digest)
        if raw is not None:
            row = records.read_bundle(raw)
        else:
            assert bundle is not None, "a current version has its bundle"
            if bundle.content is None:  # what was staged before a restore is gone with it
                raise Busy("the store was restored meanwhile; send it again")
            self.put_chunks(digest, 0, bundle.content)
            row = BundleRow(bundle.size, 0, bundle.stored)
        if not row.references:
            self._txn.delete(digest, db=self._db["unreferenced"])
        row = replace(row, references=row.references + 1)
        self._put("bundles", digest, records.bundle(row))
        return row

    def _drop_versions(self, name: str, up_to: int | None) -> None:
        """Removes versions up to a number, as far as no pod can run them any more; None: all."""
        prefix = records.version_prefix(name)
        dropped: list[tuple[bytes, bytes]] = []
        with self._txn.cursor(db=self._db["versions"]) as cursor:
            found = cursor.set_range(prefix)
            while found and cursor.key().startswith(prefix):
                key, value = cursor.item()
                if up_to is not None and records.read_u64(key[len(prefix) :]) > up_to:
                    break
                found = cursor.next()
                if up_to is not None and self._applied < records.revision_of(cursor.value()):
                    break  # the one that replaced it is not known everywhere
                dropped.append((key, value))
        for key, value in dropped:
            self._txn.delete(key, db=self._db["versions"])
            self.sealing.drop(name, records.read_u64(key[len(prefix) :]))
            self._release(bytes.fromhex(records.read_version(value).digest))

    def _row(self, digest: bytes) -> BundleRow:
        raw = self._get("bundles", digest)
        assert raw is not None, "a version has its bundle"
        return records.read_bundle(raw)

    def _release(self, digest: bytes) -> None:
        row = self._row(digest)
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

    def _revision(self) -> int:
        raw = self._get("meta", b"revision")
        assert raw is not None, "prepare has run"
        return records.read_u64(raw)

    def _change(self, change: Change) -> int:
        revision = self._revision() + 1
        self._put("meta", b"revision", records.u64(revision))
        self._put("changes", records.u64(revision), records.change(change))
        with self._txn.cursor(db=self._db["changes"]) as cursor:
            found = cursor.first()
            while found and records.read_u64(cursor.key()) <= revision - HISTORY:
                found = cursor.delete()
        return revision

    def _current(self, name: str) -> pb.FunctionVersion:
        number = self._head(name).version
        found = self._version(name, number)
        assert found is not None, f"{name} has no version {number}"
        return found

    def _version(self, name: str, number: int) -> pb.FunctionVersion | None:
        raw = self._get("versions", records.version_key(name, number))
        return records.read_version(raw) if raw is not None else None

    def _before(self, name: str, number: int) -> pb.FunctionVersion | None:
        """The version before a number, of those that are kept."""
        prefix = records.version_prefix(name)
        with self._txn.cursor(db=self._db["versions"]) as cursor:
            if not cursor.set_key(records.version_key(name, number)) or not cursor.prev():
                return None
            if not cursor.key().startswith(prefix):
                return None
            return records.read_version(cursor.value())

    def _head(self, name: str) -> Head:
        raw = self._get("functions", name.encode())
        if raw is None:
            raise NotFound(f"there is no function {name!r}")
        return records.read_head(raw)

    def _get(self, database: str, key: bytes) -> bytes | None:
        return self._txn.get(key, db=self._db[database])

    def _put(self, database: str, key: bytes, value: bytes | memoryview) -> None:
        self._txn.put(key, value, db=self._db[database])


def _clock() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def replace_version(
    version: pb.FunctionVersion, number: int, digest: bytes, size: int
) -> pb.FunctionVersion:
    """The version with what only the store knows."""
    return replace(version, version=number, digest=digest.hex(), bundle_bytes=size)
