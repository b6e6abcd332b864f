"""Changes that wait for those who watch to have applied them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sanfran_api import watch
from sanfran_api.watch import Watchers
from sanfran_proto.sanfran import v1 as pb

from api.tests.followers import following


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
