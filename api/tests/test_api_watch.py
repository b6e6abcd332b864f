"""Watching functions over gRPC, and changes that wait for those who watch."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpclib import GRPCError, Status
from grpclib.client import Channel
from grpclib.const import Cardinality
from sanfran_api import watch
from sanfran_api.store import transactions
from sanfran_api.store.store import Store
from sanfran_api.watch import Watchers
from sanfran_common.rpc.channel import open_channel
from sanfran_proto.sanfran import v1 as pb

from api.tests.stores import bundle, function, opened, same

METHOD = "/sanfran.v1.Api/WatchFunctions"


class EndOfStream(Exception):
    """Takes the place of the status, which grpclib raises when the stream is left."""


class Follower:
    """A watcher as a controller is one, whose answers the test decides."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def event(self) -> pb.FunctionEvent:
        async with asyncio.timeout(5):
            event = await self._stream.recv_message()
        if event is None:
            raise EndOfStream
        return event

    async def until_synced(self) -> tuple[list[pb.FunctionEvent], pb.FunctionEvent]:
        before: list[pb.FunctionEvent] = []
        while (event := await self.event()).synced is None:
            before.append(event)
        return before, event

    async def applied(self, revision: int) -> None:
        applied = pb.WatchApplied(revision=revision)
        await self._stream.send_message(pb.WatchFunctionsRequest(applied=applied))

    async def live(self, *controllers: str) -> None:
        live = pb.WatchLive(controllers=list(controllers))
        await self._stream.send_message(pb.WatchFunctionsRequest(live=live))


@asynccontextmanager
async def following(
    api: Any, from_revision: int = 0, controller: str = ""
) -> AsyncIterator[Follower]:
    channel: Channel = open_channel(api.life.addresses["rpc"])
    try:
        async with channel.request(
            METHOD, Cardinality.STREAM_STREAM, pb.WatchFunctionsRequest, pb.FunctionEvent
        ) as stream:
            start = pb.WatchStart(
                watcher="test", from_revision=from_revision, controller=controller
            )
            await stream.send_message(pb.WatchFunctionsRequest(start=start))
            try:
                yield Follower(stream)
            except EndOfStream:
                return
            await stream.cancel()
    finally:
        channel.close()


def shown(event: pb.FunctionEvent) -> Any:
    if event.put is not None:
        return (event.put.name, event.put.version)
    return event.deleted if event.deleted is not None else event.synced


@pytest.fixture
async def quick(run_api: Any) -> AsyncIterator[Any]:
    async with run_api(apply_timeout=0.1) as api:
        yield api


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


async def answer_all(follower: Follower) -> None:
    while True:
        revision = (await follower.event()).revision  # fails when the stream has ended
        await follower.applied(revision)
        await follower.applied(revision - 1)  # `synced`, the first time


async def test_a_change_is_answered_when_every_watcher_has_applied_it(api: Any) -> None:
    await api.create("a")
    async with following(api) as one, following(api) as two:
        for follower in (one, two):
            _, synced = await follower.until_synced()
            await follower.applied(synced.revision)
        update = asyncio.create_task(api.update("a", b"2"))
        first, second = await one.event(), await two.event()
        await one.applied(first.revision)
        done, _ = await asyncio.wait({update}, timeout=0.1)
        assert not done
        await two.applied(second.revision)
        answer = await asyncio.wait_for(update, 5)
        assert answer.json()["applied"] is True
        assert answer.headers["sanfran-applied"] == "true"
        delete = asyncio.create_task(api.stub.delete_function(pb.DeleteFunctionRequest(name="a")))
        for follower in (one, two):
            event = await follower.event()
            assert event.deleted == "a"
            assert not delete.done()
            await follower.applied(event.revision)
        await asyncio.wait_for(delete, 5)


async def test_answers_out_of_order_count_for_their_own_change_only(api: Any) -> None:
    await api.create("a")
    await api.create("b")
    async with following(api) as follower:
        _, synced = await follower.until_synced()
        await follower.applied(synced.revision)
        first = asyncio.create_task(api.update("a", b"2"))
        event_a = await follower.event()
        second = asyncio.create_task(api.update("b", b"2"))
        event_b = await follower.event()
        await follower.applied(event_b.revision)
        await asyncio.wait_for(second, 5)
        assert not first.done()
        await follower.applied(event_a.revision)
        await asyncio.wait_for(first, 5)


async def test_a_watcher_that_dies_is_not_waited_for(api: Any) -> None:
    await api.create("a")
    async with following(api) as follower:
        _, synced = await follower.until_synced()
        await follower.applied(synced.revision)
        update = asyncio.create_task(api.update("a", b"2"))
        await follower.event()
    answer = await asyncio.wait_for(update, 5)
    assert answer.json()["applied"] is True


async def test_a_controller_that_lives_is_waited_for_until_it_is_back_or_lives_no_more(
    api: Any,
) -> None:
    await api.create("a")
    async with following(api, controller="one") as one:
        _, synced = await one.until_synced()
        await one.live("one", "two")
        await one.applied(synced.revision)
        for back in (True, False):
            async with following(api, controller="two") as two:
                _, synced = await two.until_synced()
                update = asyncio.create_task(api.update("a", b"2"))
                event = await one.event()
                await one.applied(event.revision)
            done, _ = await asyncio.wait({update}, timeout=0.1)
            assert not done, "its connection broke, which says nothing of its pods"
            if back:
                async with following(api, controller="two") as two:
                    _, synced = await two.until_synced()
                    await two.applied(synced.revision)
                    answer = await asyncio.wait_for(update, 5)
            else:
                await one.live("one")
                answer = await asyncio.wait_for(update, 5)
            assert answer.json()["applied"] is True


async def test_a_watcher_that_still_reads_its_snapshot_is_waited_for(api: Any) -> None:
    await api.create("a")
    async with following(api) as follower:
        _, synced = await follower.until_synced()
        update = asyncio.create_task(api.update("a", b"2"))
        event = await follower.event()
        await follower.applied(event.revision)
        assert (await asyncio.wait_for(update, 5)).json()["version"] == 2
        assert event.revision == synced.revision + 1


async def test_a_watcher_that_never_answers_delays_a_change_for_so_long_only(quick: Any) -> None:
    async with following(quick) as follower:
        await follower.until_synced()
        answer = await quick.create("a")
        assert answer.status_code == 201
        assert answer.json()["applied"] is False
        assert answer.headers["sanfran-applied"] == "false"
        deleted = await quick.http.delete("functions/a")
        assert (deleted.status_code, deleted.headers["sanfran-applied"]) == (204, "false")


async def test_a_stop_does_not_wait_for_watchers(run_api: Any) -> None:
    async with run_api() as api:
        await api.create("a")
        async with following(api) as follower:
            await follower.until_synced()
            update = asyncio.create_task(api.update("a", b"2"))
            await follower.event()
            api.life.request_stop("test")
            answer = await asyncio.wait_for(update, 3)
            assert answer.json()["applied"] is False


async def test_the_first_message_must_be_the_start(api: Any) -> None:
    messages = [pb.WatchFunctionsRequest(applied=pb.WatchApplied(revision=1))]
    with pytest.raises(GRPCError) as caught:
        async for _ in api.stub.watch_functions(messages):
            pass
    assert caught.value.status is Status.INVALID_ARGUMENT


async def test_a_change_waits_for_a_controller_that_is_away_for_a_moment(
    run_api: Any, tmp_path: Path
) -> None:
    async with run_api(controllers=f"unix:{tmp_path}/controller.sock") as api:
        async with following(api) as before:
            _, synced = await before.until_synced()
            await before.applied(synced.revision)
        creating = asyncio.create_task(api.create("hello"))
        async with following(api, synced.revision) as back:
            event = await back.event()  # the creation, before or behind `synced`
            while event.put is None:
                await back.applied(event.revision)
                event = await back.event()
            assert not creating.done()
            await back.applied(event.revision)
            assert (await creating).json()["applied"] is True


async def test_without_any_controller_a_change_says_that_nobody_has_applied_it(
    run_api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "ABSENCE_PATIENCE", 0.05)
    async with run_api(controllers=f"unix:{tmp_path}/controller.sock") as api:
        assert (await api.create("hello")).json()["applied"] is False


async def test_nothing_counts_as_applied_everywhere_before_every_live_controller_says_so() -> None:
    watchers = Watchers(expected=True)
    assert watchers.applied_everywhere() == 0, "one may have died and left pods"
    with watchers.attach("process", "one") as one, watchers.attach("other", "two") as two:
        for watcher, sent in ((one, 5), (two, 7)):
            for revision in range(1, sent + 1):
                watcher._owe(revision)
        assert watchers.applied_everywhere() == 0
        for revision in (1, 2, 4):
            one.applied(revision)
        for revision in range(1, 8):
            two.applied(revision)
        assert watchers.applied_everywhere() == 2
        one.applied(3)
        assert watchers.applied_everywhere() == 4
        one.told_live(["one", "two", "three"])
        assert watchers.applied_everywhere() == 0, "the third one is not here to say so"
        one.told_live(["one", "two"])
        assert watchers.applied_everywhere() == 4
    assert Watchers().applied_everywhere() > 1 << 60, "there are no controllers"


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
