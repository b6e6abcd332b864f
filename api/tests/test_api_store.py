"""The store alone: what is acknowledged is there, what fails leaves nothing, and it grows."""

import asyncio
import hashlib
import io
import resource
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import lmdb
import pytest
from sanfran_api.bundles.pack import Bundle
from sanfran_api.errors import AlreadyExists, ApiError, BadRequest, NotFound, StoreFailed, StoreFull
from sanfran_api.store import records, transactions
from sanfran_api.store.environment import FIRST_MAP_BYTES, SchemaMismatch, StoreInUse
from sanfran_api.store.store import GRACE_SECONDS, INLINE_BYTES, Store
from sanfran_proto.sanfran import v1 as pb

MIB = 1024 * 1024


class Clock:
    """Seconds since 1970, that a test can move."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@asynccontextmanager
async def opened(folder: Path, **settings: Any) -> AsyncIterator[Store]:
    given = {"limit": 1024 * MIB, "keep_versions": 20, "changed": lambda: None, **settings}
    async with Store(folder / "data", **given) as store:
        yield store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path) as made:
        yield made


def bundle(content: bytes) -> Bundle:
    return Bundle(hashlib.sha256(content).digest(), len(content), "a.js", io.BytesIO(content))


def function(name: str) -> pb.FunctionVersion:
    return pb.FunctionVersion(name=name, entry="a.js", settings=pb.FunctionSettings(timeout_ms=1))


def same(current: pb.FunctionVersion) -> pb.FunctionVersion:
    return function(current.name)


def content_of(store: Store, digest: str) -> bytes:
    return b"".join(store.bundle_chunks(bytes.fromhex(digest)))


async def fill(store: Store, size: int, stored: dict[str, bytes]) -> None:
    """Creates functions until that fails; `stored` has those that were acknowledged."""
    for number in range(10_000):
        content = number.to_bytes(4, "big") * (size // 4)
        await store.create(function(f"f{number}"), bundle(content))
        stored[f"f{number}"] = content


async def test_a_version_is_read_as_it_was_written(store: Store) -> None:
    made = await store.create(function("a"), bundle(b"code"))
    assert made.version.version == 1
    assert store.get("a") == made.version
    assert made.version.digest == hashlib.sha256(b"code").hexdigest()
    assert made.version.bundle_bytes == 4
    assert content_of(store, made.version.digest) == b"code"
    assert store.revision == made.revision


async def test_a_name_that_is_taken_is_refused_and_nothing_changes(store: Store) -> None:
    made = await store.create(function("a"), bundle(b"1"))
    with pytest.raises(AlreadyExists):
        await store.create(function("a"), bundle(b"2"))
    assert store.get("a") == made.version
    with pytest.raises(NotFound):
        content_of(store, hashlib.sha256(b"2").hexdigest())


@pytest.mark.parametrize("name", ["", "b", "x" * 600, "ü"])
async def test_what_does_not_exist_is_not_found(store: Store, name: str) -> None:
    await store.create(function("a"), bundle(b"1"))
    with pytest.raises(NotFound):
        store.get(name)


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 5 * MIB + 7])
async def test_a_bundle_of_any_size_comes_back_whole(store: Store, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    made = await store.create(function("a"), bundle(content))
    assert content_of(store, made.version.digest) == content
    again = await store.create(function("b"), bundle(content))
    assert again.version.digest == made.version.digest


async def test_version_numbers_are_never_given_twice(store: Store) -> None:
    await store.create(function("a"), bundle(b"1"))
    assert (await store.update("a", same, None)).version.version == 2
    await store.delete("a")
    with pytest.raises(NotFound):
        store.get("a")
    with pytest.raises(NotFound):
        await store.update("a", same, None)
    with pytest.raises(NotFound):
        await store.delete("a")
    assert (await store.create(function("a"), bundle(b"1"))).version.version == 3


async def test_a_refused_revision_stores_nothing(store: Store) -> None:
    made = await store.create(function("a"), bundle(b"1"))

    def refuse(current: pb.FunctionVersion) -> pb.FunctionVersion:
        raise BadRequest("no")

    with pytest.raises(BadRequest):
        await store.update("a", refuse, bundle(b"2"))
    assert store.get("a") == made.version
    assert store.revision == made.revision


async def test_writes_that_wait_together_share_a_commit_and_fail_alone(tmp_path: Path) -> None:
    commits = 0

    def changed() -> None:
        nonlocal commits
        commits += 1

    async with opened(tmp_path, changed=changed) as store:
        await store.create(function("f0"), bundle(b"0"))
        release = threading.Event()
        store._writer.post(lambda txn: release.wait(10))  # holds the thread, or is in the batch
        writes = [store.create(function(f"f{n}"), bundle(b"%d" % n)) for n in range(100)]
        tasks = [asyncio.create_task(write) for write in writes]
        broken = store._writer.post(lambda txn: 1 / 0)
        await asyncio.sleep(0)  # every task has asked
        release.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], AlreadyExists)
        assert not [result for result in results[1:] if isinstance(result, BaseException)]
        assert isinstance(broken.exception(), ZeroDivisionError)
        assert [store.get(f"f{n}").version for n in range(100)] == [1] * 100
        # One each for the first write and the blocker, then the batch, tried again one by one
        # because of the write that broke: what matters is that all others were kept.
        before = commits
        release.clear()
        store._writer.post(lambda txn: release.wait(10))
        tasks = [asyncio.create_task(store.update(f"f{n}", same, None)) for n in range(100)]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*tasks)
        assert commits - before <= 4


async def test_a_write_that_is_cancelled_while_it_waits_is_not_done(store: Store) -> None:
    release, began = threading.Event(), threading.Event()
    store._writer.post(lambda txn: (began.set(), release.wait(10)))
    await asyncio.to_thread(began.wait, 10)
    write = asyncio.create_task(store.create(function("a"), bundle(b"1")))
    await asyncio.sleep(0)
    write.cancel()
    await asyncio.sleep(0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await write
    await store.create(function("b"), bundle(b"1"))
    with pytest.raises(NotFound):
        store.get("a")


async def test_reads_go_on_while_a_write_waits_for_the_disk(store: Store) -> None:
    await store.create(function("a"), bundle(b"1"))
    release = threading.Event()
    stuck = store._writer.post(lambda txn: release.wait(10))
    assert store.get("a").name == "a"
    release.set()
    await asyncio.wrap_future(stuck)


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


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writes beyond a file's size fail as on a full disk (EFBIG, or in part and then EIO)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


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


def has_bundle(store: Store, content: bytes) -> bool:
    try:
        return content_of(store, hashlib.sha256(content).hexdigest()) == content
    except NotFound:
        return False


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
        made = Bundle(hashlib.sha256(content).digest(), len(content), "a.js", Slow(content))
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
        assert records.read_bundle(raw) == records.BundleRow(len(content), 5)
    assert has_bundle(store, content)


async def test_history_is_complete_in_order_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "HISTORY", 10)
    async with opened(tmp_path) as store:
        start = store.revision
        await store.create(function("a"), bundle(b"1"))
        await store.update("a", same, None)
        await store.delete("a")
        await store.create(function("b"), bundle(b"1"))
        found = store.history(start, 100)
        assert found is not None
        # Versions that are gone again have no event; their deletion has.
        assert [(event.deleted, event.put and event.put.name) for event in found.events] == [
            ("a", None),
            (None, "b"),
        ]
        assert (found.up_to, found.more) == (start + 4, False)
        page = store.history(start, 2)
        assert page is not None
        assert (page.up_to, page.more) == (start + 2, True)
        for _ in range(10):
            await store.update("b", same, None)
        assert store.history(start + 3, 100) is None, "forgotten"
        kept = store.history(start + 4, 100)
        assert kept is not None
        assert len(kept.events) == 10
        assert store.history(store.revision + 1, 100) is None, "never was there"
        now = store.history(store.revision, 100)
        assert now is not None
        assert now.events == []


async def test_a_new_store_is_not_taken_for_an_older_one(tmp_path: Path) -> None:
    async with opened(tmp_path / "1") as store:
        for number in range(20):
            await store.create(function(f"f{number}"), bundle(b"1"))
        known = store.revision
    async with opened(tmp_path / "2") as store:
        await store.create(function("a"), bundle(b"1"))
        assert store.history(known, 100) is None


async def test_its_folder_can_be_entered_by_its_user_alone_also_where_that_is_not_root(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path):
        modes = [oct(one.stat().st_mode & 0o777) for one in tmp_path.rglob("*") if one.is_dir()]
        assert set(modes) == {"0o700"}


async def test_functions_are_paged_by_name(store: Store) -> None:
    names = sorted([f"f{n}" for n in range(25)] + ["f-1", "a", "z" * 63])
    for name in names:
        await store.create(function(name), bundle(b"1"))
    found: list[str] = []
    after = ""
    while True:
        page = store.page(after, 7)
        found += [one.name for one, _ in page.functions]
        after = page.next_after
        if not after:
            break
    assert found == names
    assert [one.name for one, _ in store.page("f", 1).functions] == ["f-1"]
    assert store.page("zz" * 500, 10).functions == []


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(StoreInUse, match="another sanfran-api"):
            async with opened(tmp_path):
                pass
    async with opened(tmp_path):
        pass


async def test_a_store_of_a_newer_service_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store._writer.run(
            lambda txn: txn.put(b"schema", records.u64(99), db=store._environment.databases["meta"])
        )
    with pytest.raises(SchemaMismatch, match=r"schema 99, this service reads up to 1"):
        async with opened(tmp_path):
            pass


def test_every_refusal_has_a_code_and_a_status() -> None:
    def kinds(kind: type[ApiError]) -> Iterator[type[ApiError]]:
        yield kind
        for one in kind.__subclasses__():
            yield from kinds(one)

    for kind in kinds(ApiError):
        assert kind.code.isascii()
        assert 400 <= kind.http_status < 600
