"""Lines are taken in turns and at a pace."""

from __future__ import annotations

import asyncio
import time

import pytest
from sanfran_sidecar.lines import AT_ONCE, BURST, SHARE, LineReader
from sanfran_sidecar.logs import READ_AT_ONCE, ActivationLog


class Reading:
    """A reader, what it was told, and how long each line takes to handle."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.costs = 0.0
        self.lines: list[bytes] = []
        self.endless: list[bytes] = []
        self.reads = asyncio.Event()
        self.reads.set()
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        self.reader = LineReader(
            self.take, self.endless.append, max_line=100, pause=self.pause, resume=self.resume
        )

    def take(self, line: bytes) -> None:
        self.lines.append(line)
        self.now += self.costs

    def pause(self) -> None:
        assert self.reads.is_set()
        self.reads.clear()

    def resume(self) -> None:
        assert not self.reads.is_set()
        self.reads.set()


@pytest.fixture
async def reading(monkeypatch: pytest.MonkeyPatch) -> Reading:
    return Reading(monkeypatch)


async def test_lines_come_whole_however_they_are_cut(reading: Reading) -> None:
    for piece in (b"on", b"e\ntwo\n\nthr", b"", b"ee\nfo"):
        reading.reader.feed(piece)
    assert reading.lines == [b"one", b"two", b"", b"three"]
    assert reading.reader.finish() == b"fo"
    assert reading.reads.is_set()


async def test_a_line_without_an_end_is_not_waited_for(reading: Reading) -> None:
    reading.reader.feed(b"x" * 100)
    reading.reader.feed(b"x")
    reading.reader.feed(b"y\n")
    assert reading.endless == [b"x" * 101]
    assert reading.lines == [b"y"]


async def test_many_lines_are_handled_over_several_turns_of_the_loop(reading: Reading) -> None:
    reading.reader.feed(b"\n" * (3 * AT_ONCE))
    assert len(reading.lines) == AT_ONCE
    assert not reading.reads.is_set()
    reading.reader.feed(b"last\n")  # was under way already
    assert len(reading.lines) == AT_ONCE
    await asyncio.wait_for(reading.reads.wait(), 5)
    assert reading.lines[-1] == b"last"
    assert len(reading.lines) == 3 * AT_ONCE + 1


async def test_who_has_used_its_share_is_not_read_until_it_has_one_again(reading: Reading) -> None:
    loop = asyncio.get_running_loop()
    reading.costs = BURST
    reading.reader.feed(b"allowed\n")
    assert reading.reads.is_set()
    reading.reader.feed(b"too much\n")
    assert not reading.reads.is_set()
    began = loop.time()
    reading.now += BURST / SHARE
    await asyncio.wait_for(reading.reads.wait(), 5)
    assert loop.time() - began >= BURST / SHARE * 0.9
    reading.now += 2 * BURST / SHARE  # quiet
    reading.reader.feed(b"allowed again\n")
    assert reading.reads.is_set()


async def test_what_waits_at_the_end_is_handled_from_its_last_lines_on(reading: Reading) -> None:
    lines = b"".join(b"%d\n" % number for number in range(5 * AT_ONCE))
    reading.reader.feed(lines)
    assert reading.reader.finish() == b""
    assert len(reading.lines) == 2 * AT_ONCE
    assert reading.lines[-1] == b"%d" % (5 * AT_ONCE - 1)
    await asyncio.sleep(0.01)
    assert len(reading.lines) == 2 * AT_ONCE


async def test_reading_a_full_log_leaves_turns_of_the_loop_to_others() -> None:
    log = ActivationLog("pod-1", 1, max_lines=1000)
    for number in range(4 * READ_AT_ONCE):
        log.append("info", str(number))
    turns: list[int] = []
    seen = 0
    loop = asyncio.get_running_loop()
    async for _ in log.read(follow=False, tail=0):
        seen += 1
        loop.call_soon(turns.append, seen)
    assert seen == 4 * READ_AT_ONCE
    assert len(turns) >= 3 * READ_AT_ONCE
