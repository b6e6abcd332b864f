"""A backup: the store's file as of one moment, between a line that says what it is and a digest of it all.

    {"format": "sanfran-backup", "schema": 2, …}\\n   what it is
    …                                                the store's file, compact
    SANFRAN\\0 and 32 bytes                           SHA-256 of everything before

Reading and judging a file is work for a process of its own (`python -m sanfran_api.store.backup`): a snapshot keeps
LMDB from resizing the map of its process for as long as its reader takes, and a file from elsewhere may
be anything.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import lmdb
import zstandard

from sanfran_api.errors import BadRequest
from sanfran_api.store import records
from sanfran_api.store.environment import Environment, SchemaMismatch, opening
from sanfran_api.store.migrations import bring_up_to_date

FORMAT = "sanfran-backup"
END = b"SANFRAN\0"
TRAILER_BYTES = len(END) + 32
MAX_HEAD_BYTES = 4096
PIECE_BYTES = 256 * 1024
COPY, JUDGE = "copy", "judge"
"""What the process can do."""


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


def head() -> bytes:
    """How a backup begins."""
    return json.dumps({"format": FORMAT, "schema": records.SCHEMA}).encode() + b"\n"


class Sealer:
    """Adds up what is sent of a backup; `end` is its end."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def add(self, part: bytes) -> bytes:
        """A part on its way out."""
        self._sum.update(part)
        return part

    def end(self) -> bytes:
        """The end."""
        return END + self._sum.digest()


class Unsealer:
    """Takes a backup apart as it comes in.

    `feed` gives what belongs to the store's file; `end` says whether all of it came as it was sent.
    """

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        self._held = b""
        self._has_head = False

    def feed(self, part: bytes) -> bytes:
        """The next part.

        Raises:
            BadRequest: this is no backup.
        """
        self._held += part
        if not self._has_head:
            line, newline, _ = self._held.partition(b"\n")
            if not newline and len(self._held) < MAX_HEAD_BYTES:
                return b""
            self._check_head(line)
            self._has_head = True
            self._held = self._held[self._take(len(line) + 1) :]
        ready = max(len(self._held) - TRAILER_BYTES, 0)
        taken = self._held[: self._take(ready)]
        self._held = self._held[ready:]
        return taken

    def end(self) -> None:
        """All has come.

        Raises:
            BadRequest: it was cut off, or altered.
        """
        if not self._has_head or not self._held.startswith(END) or len(self._held) != TRAILER_BYTES:
            raise _refuse("it ends in the middle; nothing was changed")
        if self._held[len(END) :] != self._sum.digest():
            raise _refuse(
                "it was altered: its SHA-256 is not the one at its end; nothing was changed"
            )

    def _take(self, count: int) -> int:
        self._sum.update(self._held[:count])
        return count

    def _check_head(self, line: bytes) -> None:
        try:
            told = json.loads(line)
            schema = int(told["schema"]) if told["format"] == FORMAT else None
        except (ValueError, KeyError, TypeError, RecursionError):
            schema = None
        if schema is None:
            raise _refuse("this is no backup; `sanfran backup FILE` makes one")
        if schema > records.SCHEMA:
            raise _refuse(
                f"its schema is {schema}, this service reads up to {records.SCHEMA}; "
                "restore it with the newer sanfran-api that made it"
            )


def _refuse(problem: str) -> BadRequest:
    return BadRequest(f"backup: {problem}", field="backup")


@dataclass(slots=True)
class _Judge:
    """Walks through a store from elsewhere, once it has the present schema."""

    txn: Any
    db: dict[str, Any]

    def judge(self) -> Judged:
        """Raises ValueError for whatever does not fit together."""
        references: dict[bytes, int] = {}
        functions = 0
        for key, value in self._rows("versions"):
            name, _, number = key.partition(b"\0")
            _need(self._get("functions", name), f"version {key!r} without a function")
            numbers = _need(self._get("numbers", name), f"{name!r} without a number")
            if number > numbers:
                raise ValueError(f"version {key!r} is beyond the last number")
            version = records.read_version(value)
            if records.version_key(version.name, version.version) != key:
                raise ValueError(f"version {key!r} says that it is another one")
            digest = bytes.fromhex(version.digest)
            references[digest] = references.get(digest, 0) + 1
        for name, value in self._rows("functions"):
            functions += 1
            key = records.version_key(name.decode(), records.read_head(value).version)
            _need(self._get("versions", key), f"function {name!r} without its version")
        for digest, value in self._rows("bundles"):
            row = records.read_bundle(value)
            if row.references != references.pop(digest, 0):
                raise ValueError(f"bundle {digest.hex()} is counted wrong")
            if not self._is_content(digest, row):
                raise ValueError(f"bundle {digest.hex()} has another content")
        for digest in references:
            raise ValueError(f"bundle {digest.hex()} is not there")
        revision = records.read_u64(_need(self._get("meta", b"revision"), "no revision"))
        return Judged(functions, revision, [key for key, _ in self._rows("keys")])

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


def _need(value: bytes | None, problem: str) -> bytes:
    if value is None:
        raise ValueError(problem)
    return value


def _judge(folder: Path, limit: int) -> dict[str, Any]:
    try:
        environment = Environment(folder, records.DATABASES, limit)
        try:
            with environment.read() as txn:
                # An empty file would be taken for a new store.
                if txn.get(b"schema", db=environment.databases["meta"]) is None:
                    raise ValueError("there is no store in it")
            environment.write(lambda txn: bring_up_to_date(txn, environment.databases))
            with environment.read() as txn:
                found = _Judge(txn, environment.databases).judge()
        finally:
            environment.close()
    except (
        ValueError,
        KeyError,
        AssertionError,
        SchemaMismatch,
        zstandard.ZstdError,
        lmdb.Error,
    ) as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    keys = [key.hex() for key in found.keys]
    return {"functions": found.functions, "revision": found.revision, "keys": keys}


def _copy(folder: Path) -> None:
    with opening(folder):  # not while a restore exchanges the files
        store = lmdb.open(str(folder / "store"), readonly=True)
    with store:
        store.copyfd(sys.stdout.fileno(), compact=True)


def main() -> None:
    """`copy FOLDER` writes the store's file to standard output; `judge FOLDER LIMIT` says in JSON
    whether a store is whole, after it has brought it to the present schema."""
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == COPY:
        _copy(folder)
    else:
        print(json.dumps(_judge(folder, int(sys.argv[3]))))  # noqa: T201  # to the service


if __name__ == "__main__":
    main()
