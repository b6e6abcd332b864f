"""npm builds: several at once, those who leave, and what a service leaves and keeps."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sanfran_api.builds.cache import BuildCache

from api.tests.builds.conftest import leftovers, locked, send
from tests.npm_registry import NpmRegistry


async def test_two_builds_that_are_the_same_are_one(
    api: Any, registry: NpmRegistry, tmp_path: Path
) -> None:
    registry.delay = 0.3
    code = locked(registry, "left")
    answers = await asyncio.gather(*(send(api, f"f{n}", code, lines=n > 0) for n in range(3)))
    assert {answer.status_code for answer in answers} == {201, 200}
    assert registry.asked["/left/-/left-1.0.0.tgz"] == 1


async def test_one_of_two_who_wait_may_leave(api: Any, registry: NpmRegistry) -> None:
    registry.delay = 1.0
    code = locked(registry, "left")
    leaving = asyncio.create_task(send(api, "leaves", code))
    await _asked(registry)
    staying = asyncio.create_task(send(api, "stays", code))
    await asyncio.sleep(0.1)
    leaving.cancel()
    assert (await staying).status_code == 201
    assert (await api.http.get("functions/leaves")).status_code == 404
    assert registry.asked["/left/-/left-1.0.0.tgz"] == 1


async def test_a_build_ends_when_the_last_who_waits_leaves(
    api: Any, registry: NpmRegistry, tmp_path: Path
) -> None:
    registry.delay = 5.0
    sending = asyncio.create_task(send(api, "a", locked(registry, "left")))
    await _asked(registry)
    assert psutil.Process().children()
    sending.cancel()
    await _until(lambda: not psutil.Process().children() and not leftovers(tmp_path / "data"))


async def _asked(registry: NpmRegistry) -> None:
    await _until(lambda: bool(registry.asked))


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  # processes and folders tell nobody
            await asyncio.sleep(0.02)


async def test_beyond_those_that_wait_a_build_is_refused(
    run_api: Any, settings: dict[str, Any], registry: NpmRegistry
) -> None:
    registry.delay = 5.0

    def code(number: int) -> bytes:
        npmrc = f"email={number}\n"  # so that each is a build of its own
        return locked(registry, "left", **{".npmrc": npmrc})

    async with run_api(**settings, builds_at_once=1, builds_waiting=1) as api:
        running = asyncio.create_task(send(api, "a", code(1)))
        await _asked(registry)
        waiting = asyncio.create_task(send(api, "b", code(2)))
        await asyncio.sleep(0.5)  # were it the later one, it would be the one that is refused
        refused = await send(api, "c", code(3))
        assert refused.status_code == 503, refused.text
        assert refused.headers["retry-after"] == "1"
        running.cancel()
        waiting.cancel()
        await _until(lambda: not psutil.Process().children())


async def test_a_build_ends_with_the_service(
    run_api: Any, settings: dict[str, Any], registry: NpmRegistry
) -> None:
    registry.delay = 5.0
    async with run_api(**{**settings, "stop_grace": 0.1}) as api:
        sending = asyncio.create_task(send(api, "a", locked(registry, "left")))
        await _asked(registry)
    assert not psutil.Process().children()
    with pytest.raises(httpx.TransportError):
        await sending


async def test_what_a_killed_service_left_is_gone_at_the_next_start(
    run_api: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    left = tmp_path / "data/builds/running/abc/work"
    left.mkdir(parents=True)
    half = tmp_path / "data/builds/modules/x.1234.partial"
    half.parent.mkdir()
    half.touch()
    async with run_api(**settings):
        assert not left.exists()
        assert not half.exists()


def test_the_cache_is_bounded_and_drops_what_was_not_used_for_the_longest(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path, 250)
    cache.open()
    for number, key in enumerate("abc"):
        path = cache.partial(key)
        path.write_bytes(b"x" * 100)
        cache.keep(key, path)
        os.utime(tmp_path / f"modules/{key}.tar", (number, number))
    (cache.downloads / "some").write_bytes(b"x" * 300)
    used = cache.find("a")
    assert used is not None
    cache.make_room(busy=True)
    assert sorted(path.name for path in (tmp_path / "modules").iterdir()) == ["a.tar", "c.tar"]
    assert list(cache.downloads.iterdir())
    with used:
        cache.make_room(busy=False)
        assert used.read() == b"x" * 100
    assert not list(cache.downloads.iterdir())
