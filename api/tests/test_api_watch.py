"""Watching functions over gRPC: everything once, then every change once."""

import asyncio
import random
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from grpclib import GRPCError, Status
from sanfran_api import watch
from sanfran_api.store import transactions
from sanfran_api.store.store import Store
from sanfran_api.watch import Watchers
from sanfran_proto.sanfran import v1 as pb

from api.tests.followers import answer_all, following, shown
from api.tests.stores import bundle, function, opened, same


async def test_a_new_watcher_gets_everything_then_every_change_once(
    quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SNAPSHOT_PAGE", 5)
    for number in range(12):
        await quick.create(f"f{number:03}")
    async with following(quick) as follower:
        before, synced = await follower.until_synced()
        assert [shown(event) for event in before] == [(f"f{n:03}", 1) for n in range(12)]
        assert {event.revision for event in before} == {0}, "no resume from within a snapshot"
        assert synced.synced == pb.WatchSynced(complete=True)
        await quick.update("f000", b"1")
        await quick.create("new")
        await quick.http.delete("functions/f001")
        changes = [await follower.event() for _ in range(3)]
        assert [shown(event) for event in changes] == [("f000", 2), ("new", 1), "f001"]
        assert [event.revision for event in changes] == [synced.revision + n for n in (1, 2, 3)]


async def test_a_watcher_that_comes_back_misses_nothing_and_gets_nothing_twice(quick: Any) -> None:
    await quick.create("a")
    async with following(quick) as follower:
        _, synced = await follower.until_synced()
        await quick.create("b")
        known = (await follower.event()).revision
    await quick.update("a", b"2")
    await quick.http.delete("functions/b")
    await quick.create("c")
    async with following(quick, known) as follower:
        before, synced = await follower.until_synced()
        assert [shown(event) for event in before] == [("a", 2), "b", ("c", 1)]
        assert [event.revision for event in before] == [known + n for n in (1, 2, 3)]
        assert not synced.synced.complete
        assert synced.revision == known + 3
        await quick.update("c", b"2")
        assert shown(await follower.event()) == ("c", 2)
    async with following(quick, known + 4) as follower:
        before, synced = await follower.until_synced()
        assert (before, synced.revision) == ([], known + 4)


async def test_changes_during_a_snapshot_come_once(
    quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SNAPSHOT_PAGE", 1)
    for name in "abcd":
        await quick.create(name, b"x" * 10, env={"PAD": "x" * 60_000})
    async with following(quick) as follower:
        # The flow-control window holds one event of this size, so the rest is still to be read.
        first = await follower.event()
        assert shown(first) == ("a", 1)
        await quick.update("d", b"2")
        await quick.http.delete("functions/c")
        await quick.update("a", b"2")
        before, synced = await follower.until_synced()
        seen = [shown(event) for event in before]
        after = [shown(await follower.event()) for _ in range(2)]
        if ("d", 2) in seen:
            assert after == ["c", ("a", 2)]
        else:  # the whole snapshot was read before the changes
            assert seen == [("b", 1), ("c", 1), ("d", 1)]
            assert after == [("d", 2), "c"]
        assert synced.synced.complete


async def test_a_resume_too_old_starts_over(quick: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "HISTORY", 5)
    await quick.create("a")
    async with following(quick) as follower:
        _, synced = await follower.until_synced()
    for _ in range(10):
        await quick.update("a", b"x")
    for unknown in (synced.revision, 7, synced.revision + 1000):
        async with following(quick, unknown) as follower:
            before, again = await follower.until_synced()
            assert [shown(event) for event in before] == [("a", 11)]
            assert again.synced.complete


async def test_a_watcher_that_falls_behind_all_history_must_connect_again(
    quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "HISTORY", 3)
    monkeypatch.setattr(watch, "MAX_UNACKNOWLEDGED", 2)
    await quick.create("a")

    async def fall_behind() -> None:
        async with following(quick) as follower:
            await follower.until_synced()
            for _ in range(10):
                await quick.update("a", b"x")
            await answer_all(follower)

    with pytest.raises(GRPCError) as caught:
        await fall_behind()
    assert caught.value.status is Status.ABORTED


async def test_the_first_message_must_be_the_start(api: Any) -> None:
    messages = [pb.WatchFunctionsRequest(applied=pb.WatchApplied(revision=1))]
    with pytest.raises(GRPCError) as caught:
        async for _ in api.stub.watch_functions(messages):
            pass
    assert caught.value.status is Status.INVALID_ARGUMENT


@pytest.mark.parametrize("kept", [10_000, 7])
@pytest.mark.parametrize("seed", range(4))
async def test_a_watch_that_is_cut_again_and_again_misses_nothing_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, kept: int
) -> None:
    monkeypatch.setattr(watch, "HISTORY_PAGE", 3)
    monkeypatch.setattr(watch, "SNAPSHOT_PAGE", 2)
    monkeypatch.setattr(transactions, "HISTORY", kept)
    rng = random.Random(seed)
    watchers = Watchers()
    done: dict[int, tuple[str, int | None]] = {}  # by revision

    async def changes(store: Store) -> None:
        there: set[str] = set()
        for _ in range(200):
            name = f"f{rng.randint(0, 7)}"
            if name not in there:
                made = await store.create(function(name), bundle(b"1"))
                there.add(name)
            elif rng.random() < 0.3:
                done[await store.delete(name)] = (name, None)
                there.discard(name)
                continue
            else:
                made = await store.update(name, same, None)
            done[made.revision] = (name, made.version.version)
            if rng.random() < 0.2:
                await asyncio.sleep(0)
        made = await store.create(function("last"), bundle(b"1"))  # which nothing hides
        done[made.revision] = ("last", 1)

    async with opened(tmp_path, changed=watchers.changed, keep_versions=200) as store:
        state: dict[str, int] = {}
        seen: list[int] = []
        revision = first = store.revision
        changing = asyncio.create_task(changes(store))
        while "last" not in state:
            with watchers.attach("follower") as watcher:
                fresh: dict[str, int] = {}
                async with aclosing(watcher.events(store, revision)) as events:
                    for _ in range(rng.randint(1, 12)):
                        if "last" in state:
                            break
                        try:
                            event = await anext(events)
                        except watch.TooFarBehind:
                            break
                        if not event.revision:
                            assert event.put is not None
                            fresh[event.put.name] = event.put.version
                        elif event.synced is not None:
                            if event.synced.complete:
                                state = fresh
                        else:
                            assert event.revision > revision, "repeated, or out of order"
                            seen.append(event.revision)
                            if event.put is not None:  # a snapshot may have had a newer one
                                known = state.get(event.put.name, 0)
                                state[event.put.name] = max(known, event.put.version)
                            else:
                                state.pop(event.deleted or "", None)
                        revision = max(revision, event.revision)
        await changing
        there = {one.name: one.version for one, _ in store.page("", 100).functions}
    assert state == there
    assert len(seen) == len(set(seen))
    if kept > 1000:  # no snapshot: each change, but versions of what was deleted later
        last = {name: at for at, (name, version) in done.items() if version is None}
        wanted = {
            at for at, (name, version) in done.items() if version is None or at > last.get(name, 0)
        }
        assert wanted <= set(seen)
        assert min(done) == first + 1
