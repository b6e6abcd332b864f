"""The store alone: what is acknowledged is there, and what is refused leaves nothing."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sanfran_api.errors import AlreadyExists, ApiError, BadRequest, NotFound
from sanfran_api.store import transactions
from sanfran_api.store.environment import StoreInUse
from sanfran_api.store.store import Store
from sanfran_proto.sanfran import v1 as pb

from api.tests.stores import (
    bundle,
    content_of,
    function,
    opened,
    same,
)


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


def test_every_refusal_has_a_code_and_a_status() -> None:
    def kinds(kind: type[ApiError]) -> Iterator[type[ApiError]]:
        yield kind
        for one in kind.__subclasses__():
            yield from kinds(one)

    for kind in kinds(ApiError):
        assert kind.code.isascii()
        assert 400 <= kind.http_status < 600
