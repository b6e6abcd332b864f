"""A backup: the store's file as of one moment, between a line that says what it is and a digest of it all.

    {"format": "sanfran-backup", "schema": 2, …}\\n   what it is
    …                                                the store's file, compact
    SANFRAN\\0 and 32 bytes                           SHA-256 of everything before

Reading a file is work for a process of its own (`python -m sanfran_api.store.backup`): a snapshot keeps
LMDB from resizing the map of its process for as long as its reader takes, and a file from elsewhere may
be anything: see `rebuilding`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import lmdb

from sanfran_api.disk import refusing_full_disk
from sanfran_api.errors import BadRequest, StoreFull
from sanfran_api.store import records
from sanfran_api.store.environment import opening
from sanfran_api.store.rebuilding import REFUSED, rebuild

FORMAT = "sanfran-backup"
END = b"SANFRAN\0"
TRAILER_BYTES = len(END) + 32
MAX_HEAD_BYTES = 4096
COPY, REBUILD = "copy", "rebuild"
"""What the process can do."""
RECEIVED = "received"
"""Name of the file that a backup had in it."""


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


def _rebuild(folder: Path, limit: int) -> dict[str, Any]:
    received = folder / RECEIVED
    try:
        with refusing_full_disk():
            found = rebuild(received, folder, limit)
            received.unlink()  # the exchange finds more room
    except StoreFull as error:
        return {"full": error.message}
    except REFUSED as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    keys = [key.hex() for key in found.keys]
    return {"functions": found.functions, "revision": found.revision, "keys": keys}


def _copy(folder: Path) -> None:
    with opening(folder):  # not while a restore exchanges the files
        store = lmdb.open(str(folder / "store"), readonly=True)
    with store:
        store.copyfd(sys.stdout.fileno(), compact=True)


def main() -> None:
    """`copy FOLDER` writes the store's file to standard output; `rebuild FOLDER LIMIT` makes a store in the folder
    of what the file `received` in it has, and says in JSON whether that was whole."""
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == COPY:
        _copy(folder)
    else:
        print(json.dumps(_rebuild(folder, int(sys.argv[3]))))  # noqa: T201  # to the service


if __name__ == "__main__":
    main()
