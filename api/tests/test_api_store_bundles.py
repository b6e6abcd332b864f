"""Bundles in the store: as long as somebody may need one, it is there."""

import asyncio
import hashlib
import io
import time
from pathlib import Path

import pytest
from sanfran_api.bundles.pack import Bundle
from sanfran_api.store import records
from sanfran_api.store.store import GRACE_SECONDS, INLINE_BYTES, Store

from api.tests.stores import (
    MIB,
    Clock,
    bundle,
    content_of,
    function,
    has_bundle,
    opened,
    same,
)


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 5 * MIB + 7])
async def test_a_bundle_of_any_size_comes_back_whole(store: Store, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    made = await store.create(function("a"), bundle(content))
    assert content_of(store, made.version.digest) == content
    again = await store.create(function("b"), bundle(content))
    assert again.version.digest == made.version.digest


async def test_only_the_newest_versions_are_kept(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, keep_versions=3, clock=clock) as store:
        await store.create(function("a"), bundle(b"0"))
        for number in range(1, 6):
            await store.update("a", same, bundle(b"%d" % number))
        clock.ahead = GRACE_SECONDS + 1
        await store.sweep()
        kept = [number for number in range(6) if has_bundle(store, b"%d" % number)]
        assert kept == [3, 4, 5]


async def test_a_bundle_goes_after_its_grace_when_nobody_needs_it(tmp_path: Path) -> None:
    clock = Clock()
    large = b"x" * (INLINE_BYTES + 1)
    async with opened(tmp_path, clock=clock) as store:
        await store.create(function("a"), bundle(large))
        await store.create(function("b"), bundle(large))
        await store.delete("a")
        await store.delete("b")
        await store.sweep()
        assert has_bundle(store, large)
    clock.ahead = GRACE_SECONDS + 1
    async with opened(tmp_path, clock=clock) as store:
        reading = store.bundle_chunks(hashlib.sha256(large).digest())
        next(reading)
        await store.sweep()
        assert has_bundle(store, large), "it is being fetched"
        reading.close()
        await store.create(function("c"), bundle(large))
        await store.sweep()
        assert has_bundle(store, large), "a version needs it again"
        await store.delete("c")
        clock.ahead += GRACE_SECONDS + 1
        await store.sweep()
        assert not has_bundle(store, large)
        with store._environment.read() as txn:
            for name in ("chunks", "bundles", "unreferenced", "versions", "functions"):
                assert txn.stat(store._environment.databases[name])["entries"] == 0


async def test_what_an_upload_left_half_written_is_swept(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as store:
        started = asyncio.Event()

        class Slow(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                loop.call_soon_threadsafe(started.set)
                time.sleep(0.05)
                return super().read(size)

        loop = asyncio.get_running_loop()
        content = b"x" * (20 * MIB)
        made = Bundle(
            hashlib.sha256(content).digest(), len(content), "a.js", len(content), Slow(content)
        )
        upload = asyncio.create_task(store.create(function("a"), made))
        await started.wait()
        clock.ahead = GRACE_SECONDS + 1
        await store.sweep()
        with store._environment.read() as txn:
            assert txn.stat(store._environment.databases["unreferenced"])["entries"] == 1
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        await store.sweep()
        with store._environment.read() as txn:
            for name in ("chunks", "bundles", "unreferenced"):
                assert txn.stat(store._environment.databases[name])["entries"] == 0


async def test_uploads_of_the_same_large_bundle_at_once_share_it(store: Store) -> None:
    content = b"x" * (5 * MIB)
    await asyncio.gather(*(store.create(function(f"f{n}"), bundle(content)) for n in range(5)))
    with store._environment.read() as txn:
        raw = txn.get(hashlib.sha256(content).digest(), db=store._environment.databases["bundles"])
        assert raw is not None
        assert records.read_bundle(raw) == records.BundleRow(len(content), 5, len(content))
    assert has_bundle(store, content)


async def test_what_a_controller_that_is_behind_may_still_run_is_kept(tmp_path: Path) -> None:
    clock = Clock()
    applied = 0
    settings = {"keep_versions": 2, "clock": clock, "applied": lambda: applied}
    async with opened(tmp_path, **settings) as store:
        made = [await store.create(function("a"), bundle(b"0"))]
        made += [await store.update("a", same, bundle(b"%d" % number)) for number in range(1, 6)]

        async def kept() -> list[int]:
            clock.ahead += GRACE_SECONDS + 1
            await store.sweep()
            return [number for number in range(len(made)) if has_bundle(store, b"%d" % number)]

        assert len(store.versions("a")) == 6
        assert await kept() == [0, 1, 2, 3, 4, 5]
        applied = made[2].revision  # it may run the third version, and none before
        made.append(await store.update("a", same, bundle(b"6")))
        assert [one.version for one in store.versions("a")] == [7, 6, 5, 4, 3]
        assert await kept() == [0, 1, 2, 3, 4, 5, 6], "nobody has applied what let go of them"
        applied = made[6].revision
        assert await kept() == [2, 3, 4, 5, 6]
        made.append(await store.update("a", same, bundle(b"7")))
        assert [one.version for one in store.versions("a")] == [8, 7]
        revision = await store.delete("a")
        assert await kept() == [2, 3, 4, 5, 6, 7]
        applied = revision
        assert await kept() == []


async def test_a_bundle_that_is_needed_again_and_let_go_again_has_its_whole_grace(
    tmp_path: Path,
) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as store:
        await store.create(function("a"), bundle(b"1"))
        await store.delete("a")
        with store._environment.read() as txn:
            noted = records.read_note(
                txn.get(
                    hashlib.sha256(b"1").digest(), db=store._environment.databases["unreferenced"]
                )
            )
        await store.create(function("b"), bundle(b"1"))
        with store._environment.read() as txn:
            assert txn.stat(store._environment.databases["unreferenced"])["entries"] == 0
        await store.delete("b")
        with store._environment.read() as txn:
            again = records.read_note(
                txn.get(
                    hashlib.sha256(b"1").digest(), db=store._environment.databases["unreferenced"]
                )
            )
        assert again.revision > noted.revision
        assert again.ms >= noted.ms
