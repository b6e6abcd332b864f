"""Files in backups that are damaged, or made to damage: what is refused, and that nothing of the rest counts."""

import hashlib
import os
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import pytest
from sanfran_api.errors import BadRequest
from sanfran_api.store import records
from sanfran_api.store.backups import Backups

from api.tests.stores import (
    MIB,
    bundle,
    content_of,
    function,
    made,
    opened,
    opened_up,
    pieces,
    sealed_up,
)

Alter = Callable[[Any, Any], None]


def put(key: bytes, value: bytes) -> Alter:
    return lambda txn, db: txn.put(key, value, db=db)


def rewritten(**fields: Any) -> Alter:
    def alter(txn: Any, db: Any) -> None:
        key = records.version_key("a", 1)
        raw = txn.get(key, db=db)
        version = replace(records.read_version(raw), **fields)
        txn.put(key, records.version(records.revision_of(raw), version), db=db)

    return alter


@pytest.mark.parametrize(
    ("database", "alter", "says"),
    [
        ("numbers", put(b"../etc", bytes(8)), "'../etc'"),
        ("numbers", put(b"b", b"\xff" * 8), "is no number"),
        ("numbers", put(b"b", b"1"), "unpack"),
        ("meta", put(b"revision", b"\xff" * 8), "is no number"),
        ("secrets", put(b"b" + bytes(9), b"{}"), "is no version"),
        ("secrets", put(records.version_key("a", 1), b"not JSON"), "JSON"),
        ("secrets", put(records.version_key("a", 1), b'["a"]'), "no attribute"),
        ("unreferenced", put(bytes(32), b"x"), "unpack"),
        ("versions", rewritten(created_at_ms=1 << 60), "year 9999"),
        ("versions", rewritten(digest="AB" * 32), "writes its digest otherwise"),
    ],
)
async def test_a_row_that_the_service_would_trip_over_later_is_found(
    tmp_path: Path, database: str, alter: Alter, says: str
) -> None:
    async with opened(tmp_path) as store:
        backups = Backups(store, tmp_path / "data", 1024 * MIB)
        await store.create(function("a"), bundle(b"1"))
        file = opened_up(await made(backups), tmp_path / "file")
        with lmdb.open(str(file), subdir=False, lock=False, max_dbs=20) as hostile:
            db = hostile.open_db(database.encode(), create=False)
            with hostile.begin(write=True) as txn:
                alter(txn, db)
        with pytest.raises(BadRequest, match="no whole store") as caught:
            await backups.restore(pieces(sealed_up(file)))
        assert says in caught.value.message
        assert store.get("a").version == 1


META = slice(88, 136)
"""Where a meta page of LMDB says what is in the store (mm_dbs[MAIN_DBI]); before that, which pages are free."""


async def test_a_file_that_calls_pages_free_that_are_not_loses_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        backups = Backups(store, tmp_path / "data", 1024 * MIB)
        code = {f"f{number:03}": os.urandom(20_000) for number in range(100)}
        for name, content in code.items():
            await store.create(function(name), bundle(content))
        file = opened_up(await made(backups), tmp_path / "file")
        with lmdb.open(str(file), subdir=False, lock=False, max_dbs=20) as hostile:
            databases = [hostile.open_db(name.encode(), create=False) for name in records.DATABASES]
            with hostile.begin(write=True) as txn:
                for db in databases:
                    txn.drop(db, delete=False)
        raw = bytearray(file.read_bytes())
        ids = [struct.unpack_from("<Q", raw, page + 144)[0] for page in (0, 4096)]
        older, newer = (0, 4096) if ids[0] < ids[1] else (4096, 0)
        # All that was there before is there, on pages that the list of free ones has.
        raw[newer + META.start : newer + META.stop] = raw[older + META.start : older + META.stop]
        file.write_bytes(raw)
        await backups.restore(pieces(sealed_up(file)))
        for number in range(20):
            await store.create(function(f"g{number:03}"), bundle(os.urandom(20_000)))
        for name, content in code.items():
            assert content_of(store, store.get(name).digest) == content


async def test_however_a_file_is_damaged_it_is_refused_or_restored_whole(tmp_path: Path) -> None:
    chance = random.Random(6)
    async with opened(tmp_path) as store:
        backups = Backups(store, tmp_path / "data", 1024 * MIB)
        for number in range(60):
            await store.create(function(f"f{number:03}"), bundle(chance.randbytes(3000)))
        content = await made(backups)
        reasons: list[str] = []
        for _ in range(12):
            file = opened_up(content, tmp_path / "file")
            raw = bytearray(file.read_bytes())
            page = chance.randrange(2, len(raw) // 4096) * 4096
            at = page + chance.choice([0, 10, 12, 14, 16, 18, 40, chance.randrange(4096 - 8)])
            size = chance.choice([1, 2, 8, page + 4096 - at])
            raw[at : at + size] = chance.choice([bytes(size), chance.randbytes(size)])
            file.write_bytes(raw)
            before = store.page("", 1000).functions
            try:
                await backups.restore(pieces(sealed_up(file)))
            except BadRequest as error:
                reasons.append(error.message)
                assert store.page("", 1000).functions == before
            for found, _ in store.page("", 1000).functions:
                code = content_of(store, found.digest)
                assert hashlib.sha256(code).hexdigest() == found.digest
            await store.create(function("later"), bundle(b"1"))
            await store.delete("later")
        assert len(reasons) > 3
        assert not [one for one in reasons if "ended with code 1)" in one], "that is no reason"


async def test_a_file_that_its_reader_does_not_get_through_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanfran_api.store.backups.REBUILD_SECONDS", 0.001)
    async with opened(tmp_path) as store:
        backups = Backups(store, tmp_path / "data", 1024 * MIB)
        content = await made(backups)
        with pytest.raises(BadRequest, match="took more than"):
            await backups.restore(pieces(content))
        assert list(store.scratch.iterdir()) == []
