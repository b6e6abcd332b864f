"""Brings a store that an older service wrote to the present schema, in the transaction that opens it.

A migration rewrites what its schema changed, and knows nothing of later ones. It reads and writes bytes as
they were then: what `records` says is true of the newest schema only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import lmdb

Databases = Mapping[str, Any]
Migration = Callable[["lmdb.Transaction[bytes]", Databases], None]

_U64 = struct.Struct(">Q")


def _to_2(txn: lmdb.Transaction[bytes], databases: Databases) -> None:
    """Versions know the revision that made them; a note of a bundle that nothing refers to stands under
    its digest, with the revision since when. (`secrets` and `keys` are new, and empty; bundles that are
    there stay uncompressed, which their rows tell.)"""
    revision = txn.get(b"revision", db=databases["meta"])
    assert revision is not None, "schema 1 has it"
    heads = databases["functions"]
    with txn.cursor(db=databases["versions"]) as cursor:
        found = cursor.first()
        while found:
            name, _, number = cursor.key().partition(b"\0")
            head = txn.get(name, db=heads)
            assert head is not None, "a version has its function"
            # Of older versions it was not kept: 0 is before whatever a controller may not have applied.
            made = head[8:] if head[:8] == number else _U64.pack(0)
            cursor.put(cursor.key(), made + cursor.value())
            found = cursor.next()
    notes: dict[bytes, bytes] = {}
    with txn.cursor(db=databases["unreferenced"]) as cursor:
        for key in cursor.iternext(keys=True, values=False):
            notes[key[8:]] = key[:8]  # in order of time: the last one counts
    txn.drop(databases["unreferenced"], delete=False)
    for digest, ms in notes.items():
        txn.put(digest, ms + revision, db=databases["unreferenced"])


MIGRATIONS: Mapping[int, Migration] = {1: _to_2}
"""By the schema that they begin with."""


def migrate(txn: lmdb.Transaction[bytes], databases: Databases, found: int, wanted: int) -> None:
    """Does what leads from one schema to another."""
    for schema in range(found, wanted):
        MIGRATIONS[schema](txn, databases)
    txn.put(b"schema", _U64.pack(wanted), db=databases["meta"])
