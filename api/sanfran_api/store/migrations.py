"""Brings a store that an older service wrote to the present schema, in the transaction that opens it.

A migration rewrites what its schema changed, and knows nothing of later ones. It reads and writes bytes as
they were then: what `records` says is true of the newest schema only.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from typing import Any

import lmdb
from sanfran_common.telemetry.logs import get_logger

from sanfran_api.store import records
from sanfran_api.store.environment import SchemaMismatch

log = get_logger("store")

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


def bring_up_to_date(txn: lmdb.Transaction[bytes], databases: Databases) -> None:
    """Makes a fresh store usable, or an older one; checks that this one is.

    Raises:
        SchemaMismatch: a newer service wrote it.
    """
    meta = databases["meta"]
    raw = txn.get(b"schema", db=meta)
    if raw is None:
        # Not zero: a controller that knew a store which was lost would take this one for its
        # continuation. No store makes a million changes per second, so a clock in
        # microseconds stays ahead of whatever was there before.
        txn.put(b"revision", _U64.pack(time.time_ns() // 1000), db=meta)
    else:
        found = int(_U64.unpack(raw)[0])
        if found > records.SCHEMA:
            raise SchemaMismatch(
                f"the store has schema {found}, this service reads up to {records.SCHEMA}; "
                "start the newer sanfran-api that wrote it, or another data folder with --data"
            )
        for schema in range(found, records.SCHEMA):
            MIGRATIONS[schema](txn, databases)
            log.info("store brought to a newer schema", schema=schema + 1)
    txn.put(b"schema", _U64.pack(records.SCHEMA), db=meta)
