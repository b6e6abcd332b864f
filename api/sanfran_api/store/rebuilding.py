"""A store made anew of the records in a file from elsewhere, and judged.

The file itself never becomes the store: whatever LMDB would trip over later in its pages, its free list or its
flags stays behind, and what it makes of them now ends a process that has nothing to lose.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import lmdb
import zstandard

from sanfran_api.errors import BadRequest, StoreFailed
from sanfran_api.names import check_name
from sanfran_api.store import records
from sanfran_api.store.environment import Environment, SchemaMismatch
from sanfran_api.store.migrations import bring_up_to_date

PIECE_BYTES = 256 * 1024
COPY_BYTES = 32 * 1024 * 1024
"""Copied in one transaction."""
COPIED = tuple(name for name in records.DATABASES if name != "changes")
"""Who follows asks for everything anew after a restore: `Tables.succeed` forgets the changes."""
LAST_MS = 253_402_300_799_999
"""Of the year 9999; no date is later."""
LAST_NUMBER = 1 << 63
"""Of versions and revisions, which still go up."""
REFUSED = (
    *(ValueError, KeyError, TypeError, AttributeError, AssertionError, struct.error),
    *(BadRequest, StoreFailed, SchemaMismatch, zstandard.ZstdError, lmdb.Error),
)
"""What `rebuild` raises of a file that is no whole store."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A store that was found to be whole.

    Args:
        functions: how many.
        revision: of its last change.
        keys: ids of the keys that its secrets are sealed with.
    """

    functions: int
    revision: int
    keys: list[bytes]


def rebuild(file: Path, folder: Path, limit: int) -> Judged:
    """Makes a store in a folder of what a file has.

    Args:
        file: may be anything; only read.
        limit: bytes that the store may have.

    Raises:
        REFUSED: it is no whole store.
        StoreFull: no room on the disk or below the limit.
    """
    made = Environment(folder, records.DATABASES, limit)
    try:
        _copy(file, made)
        made.write(lambda txn: bring_up_to_date(txn, made.databases))
        with made.read() as txn:
            return _Judge(txn, made.databases).judge()
    finally:
        made.close()


def _copy(file: Path, target: Environment) -> None:
    source = lmdb.open(
        str(file), subdir=False, readonly=True, lock=False, max_dbs=len(records.DATABASES)
    )
    with source:
        databases: dict[str, Any] = {}
        for name in COPIED:
            try:
                databases[name] = source.open_db(name.encode(), create=False)
            except lmdb.NotFoundError:
                continue  # it is of an older schema
        with source.begin() as txn:
            # An empty file would be taken for a new store.
            if "meta" not in databases or txn.get(b"schema", db=databases["meta"]) is None:
                raise ValueError("there is no store in it")
            for name, database in databases.items():
                with txn.cursor(db=database) as cursor:
                    after: bytes | None = b""
                    while after is not None:
                        after = target.write(
                            lambda out, after=after, cursor=cursor, name=name: _copy_some(  # type: ignore[misc]  # bound defaults
                                cursor, after, out, target.databases[name]
                            )
                        )


def _copy_some(cursor: Any, after: bytes, out: Any, database: Any) -> bytes | None:
    """Copies records from a key on; returns the key to go on with, None at the end."""
    found = cursor.set_range(after) if after else cursor.first()
    size = 0
    while found:
        key, value = cursor.item()
        if size > COPY_BYTES:
            return cast("bytes", key)
        # Also ends what goes round in circles.
        if not out.put(key, value, append=True, db=database):
            raise ValueError(f"its keys are in disorder at {key[:80]!r}")
        size += len(key) + len(value)
        found = cursor.next()
    return None


@dataclass(slots=True)
class _Judge:
    """Walks through what came from elsewhere, once it has the present schema. All that the service will ever
    read of it is read here: one row that it trips over later could end it, and the next start."""

    txn: Any
    db: dict[str, Any]

    def judge(self) -> Judged:
        """Raises ValueError, or what reading raises, for whatever does not fit together."""
        for name, number in self._rows("numbers"):
            check_name(name.decode())
            _number(number)
        references = self._versions()
        functions = 0
        for name, value in self._rows("functions"):
            functions += 1
            head = records.read_head(value)
            _number(records.u64(head.revision))
            key = records.version_key(name.decode(), head.version)
            _need(self._get("versions", key), f"function {name!r} without its version")
        for digest, value in self._rows("bundles"):
            row = records.read_bundle(value)
            if row.references != references.pop(digest, 0):
                raise ValueError(f"bundle {digest.hex()} is counted wrong")
            if not self._is_content(digest, row):
                raise ValueError(f"bundle {digest.hex()} has another content")
        for digest in references:
            raise ValueError(f"bundle {digest.hex()} is not there")
        for key, value in self._rows("secrets"):
            _need(self._get("versions", key), f"secrets of {key!r}, which is no version")
            records.read_sealed(value)
        for _, value in self._rows("unreferenced"):
            records.read_note(value)
        revision = _number(_need(self._get("meta", b"revision"), "no revision"))
        return Judged(functions, revision, [key for key, _ in self._rows("keys")])

    def _versions(self) -> dict[bytes, int]:
        """How many refer to each bundle."""
        references: dict[bytes, int] = {}
        for key, value in self._rows("versions"):
            name, _, number = key.partition(b"\0")
            _need(self._get("functions", name), f"version {key!r} without a function")
            numbers = _need(self._get("numbers", name), f"{name!r} without a number")
            if number > numbers:
                raise ValueError(f"version {key!r} is beyond the last number")
            _number(value[:8])
            version = records.read_version(value)
            if records.version_key(version.name, version.version) != key:
                raise ValueError(f"version {key!r} says that it is another one")
            if version.created_at_ms > LAST_MS:
                raise ValueError(f"version {key!r} was made after the year 9999")
            digest = bytes.fromhex(version.digest)
            if digest.hex() != version.digest:
                raise ValueError(f"version {key!r} writes its digest otherwise")
            references[digest] = references.get(digest, 0) + 1
        return references

    def _is_content(self, digest: bytes, row: records.BundleRow) -> bool:
        chunks = _Chunks(self._get, digest, row.stored)
        plain = chunks.peek(len(zstandard.FRAME_HEADER)) != zstandard.FRAME_HEADER
        found, size = hashlib.sha256(), 0
        content = chunks if plain else _unpacked(chunks)
        # In pieces, and no more than there should be: it may be made to fill a memory.
        while size <= row.size and (piece := content.read(PIECE_BYTES)):
            found.update(piece)
            size += len(piece)
        return size == row.size and found.digest() == digest

    def _rows(self, database: str) -> Iterator[tuple[bytes, bytes]]:
        with self.txn.cursor(db=self.db[database]) as cursor:
            yield from cursor

    def _get(self, database: str, key: bytes) -> bytes | None:
        found: bytes | None = self.txn.get(key, db=self.db[database])
        return found


class _Chunks:
    """A bundle as it is kept, to be read like a file."""

    def __init__(
        self, get: Callable[[str, bytes], bytes | None], digest: bytes, stored: int
    ) -> None:
        self._get = get
        self._digest = digest
        self._left = stored
        self._number = 0
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        """What comes first."""
        self._ahead = self.read(PIECE_BYTES)
        return self._ahead[:size]

    def read(self, size: int = -1) -> bytes:
        """The next chunk, whatever its size; empty at the end."""
        if self._ahead or not self._left:
            ahead, self._ahead = self._ahead, b""
            return ahead
        key = records.chunk_key(self._digest, self._number)
        chunk = _need(self._get("chunks", key), f"a part of {self._digest.hex()} is missing")
        self._number += 1
        self._left -= len(chunk)
        if not chunk or self._left < 0:
            raise ValueError(f"bundle {self._digest.hex()} has another length")
        return chunk


def _unpacked(chunks: _Chunks) -> Any:
    return zstandard.ZstdDecompressor().stream_reader(cast("IO[bytes]", chunks))


def _number(raw: bytes) -> int:
    number = records.read_u64(raw)
    if number > LAST_NUMBER:
        raise ValueError(f"{number} is no number of a version or a revision")
    return number


def _need(value: bytes | None, problem: str) -> bytes:
    if value is None:
        raise ValueError(problem)
    return value
