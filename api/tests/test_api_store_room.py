"""A store that grows, that is full, and whose disk is: what fails leaves nothing."""

import asyncio
import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from sanfran_api.errors import NotFound, StoreFailed, StoreFull
from sanfran_api.store.environment import FIRST_MAP_BYTES
from sanfran_api.store.store import GRACE_SECONDS, Store

from api.tests.stores import (
    MIB,
    Clock,
    bundle,
    content_of,
    file_size_limit,
    fill,
    function,
    opened,
)


async def test_the_map_grows_and_readers_see_what_they_should(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = await store.create(function("first"), bundle(b"x" * 300_000))
        chunks = store.bundle_chunks(bytes.fromhex(first.version.digest))
        head = next(chunks)
        for number in range(12):
            await store.create(function(f"big-{number}"), bundle(bytes([number]) * (9 * MIB)))
        assert store._environment.map_size > FIRST_MAP_BYTES
        assert head + b"".join(chunks) == b"x" * 300_000
    async with opened(tmp_path) as store:
        for number in range(12):
            found = store.get(f"big-{number}")
            assert hashlib.sha256(content_of(store, found.digest)).hexdigest() == found.digest


async def test_a_store_at_its_limit_refuses_but_deletes_and_then_takes_more(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, limit=24 * MIB, clock=clock) as store:
        stored: dict[str, bytes] = {}
        with pytest.raises(StoreFull, match="at its limit of 25165824 bytes"):
            await fill(store, 4 * MIB, stored)
        assert len(stored) >= 3
        # One that does not fit fails alone, with small ones beside it.
        results = await asyncio.gather(
            *(store.create(function(f"small-{n}"), bundle(b"%d" % n)) for n in range(10)),
            store.create(function("large"), bundle(b"y" * (12 * MIB))),
            return_exceptions=True,
        )
        assert isinstance(results[-1], StoreFull)
        for name in stored:
            await store.delete(name)
        clock.ahead = GRACE_SECONDS + 1
        await store.sweep()
        for number in range(2):
            await store.create(function(f"new-{number}"), bundle(bytes([number]) * (4 * MIB)))
        assert store._environment.map_size <= 24 * MIB + 3 * 4 * MIB


@pytest.mark.parametrize("size", [3000, 200_000, 3 * MIB])
async def test_a_full_disk_is_told_and_nothing_is_corrupted(tmp_path: Path, size: int) -> None:
    async with opened(tmp_path) as store:
        stored: dict[str, bytes] = {}
        with file_size_limit(8 * MIB):
            with pytest.raises(StoreFull) as caught:
                await fill(store, size, stored)
            assert caught.value.http_status == 507
            failed = f"f{len(stored)}"
            with pytest.raises(NotFound):
                store.get(failed)
            for name, content in stored.items():
                assert content_of(store, store.get(name).digest) == content
        await store.create(function(failed), bundle(b"now there is room"))
        for name, content in stored.items():
            assert content_of(store, store.get(name).digest) == content
    async with opened(tmp_path) as store:
        assert len(store.page("", 100_000).functions) == len(stored) + 1


async def test_other_errors_of_the_disk_are_not_called_full(store: Store) -> None:
    def broken(txn: Any) -> None:
        raise lmdb.CorruptedError("mdb_get", 0)

    with pytest.raises(StoreFailed):
        await store._writer.run(broken)
    await store.create(function("a"), bundle(b"1"))


async def test_a_store_that_lmdb_gave_up_on_ends_the_service(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:

        def panic(txn: Any) -> None:
            raise lmdb.PanicError("mdb_txn_commit", 0)

        running = asyncio.create_task(store.run())
        with pytest.raises(StoreFailed, match="opened again"):
            await store._writer.run(panic)
        with pytest.raises(StoreFailed, match="opened again"):
            await running
        with pytest.raises(StoreFailed, match="opened again"):
            await store.create(function("a"), bundle(b"1"))
    async with opened(tmp_path) as store:
        await store.create(function("a"), bundle(b"1"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MB; `mount -o remount,size=` makes it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may make a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("size", [2000, 150_000, 1_500_000])
async def test_a_disk_without_room_is_507_and_when_there_is_room_all_goes_on(
    small_disk: Path, size: int
) -> None:
    stored: dict[str, bytes] = {}
    async with opened(small_disk) as store:
        with pytest.raises(StoreFull) as caught:
            await fill(store, size, stored)
        assert caught.value.http_status == 507
        assert stored
        for name, content in stored.items():
            assert content_of(store, store.get(name).digest) == content
        larger = ["mount", "-o", "remount,size=40m", str(small_disk)]
        subprocess.run(larger, check=True)  # noqa: ASYNC221
        made = await store.create(function("later"), bundle(b"now there is room"))
        assert content_of(store, made.version.digest) == b"now there is room"
    async with opened(small_disk) as store:
        for name, content in stored.items():
            assert content_of(store, store.get(name).digest) == content
        assert store.get("later") == made.version
