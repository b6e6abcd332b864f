"""Functions whose pods crash: how often they get another, and what is kept of what they wrote."""

from __future__ import annotations

from sanfran_controller.crashes import EVERY, FREE, MOST, Crashes
from sanfran_controller.last_words import LastWords
from sanfran_proto.sanfran import v1 as pb

VERSION = pb.FunctionVersion(name="f", version=1)
NEXT = pb.FunctionVersion(name="f", version=2)


def test_a_few_crashes_cost_nothing_and_then_one_pod_a_second() -> None:
    crashes = Crashes()
    for _ in range(FREE):
        assert crashes.pause(VERSION, 100.0) == 0
        crashes.count(VERSION, 100.0)
    assert crashes.pause(VERSION, 100.0) == 0
    now, pods = 100.0, 0
    while now < 200.0:
        crashes.count(VERSION, now)
        pods += 1
        now += crashes.pause(VERSION, now)
    assert 95 <= pods * EVERY <= 105


def test_however_many_crash_the_pause_stays_within_what_a_request_may_wait() -> None:
    crashes = Crashes()
    for _ in range(1000):
        crashes.count(VERSION, 5.0)
    assert crashes.pause(VERSION, 5.0) == (MOST - FREE) * EVERY
    assert crashes.pause(VERSION, 5.0 + MOST * EVERY) == 0


def test_a_new_version_starts_without_the_crashes_of_the_old_one() -> None:
    crashes = Crashes()
    for _ in range(MOST):
        crashes.count(VERSION, 5.0)
    assert crashes.pause(NEXT, 5.0) == 0
    crashes.count(NEXT, 5.0)
    assert crashes.pause(NEXT, 5.0) == 0


def lines(*texts: str) -> list[pb.LogLine]:
    return [pb.LogLine(text=text) for text in texts]


def test_of_each_function_the_newest_lines_are_kept() -> None:
    words = LastWords(lines=3)
    words.keep("f", lines("1", "2"))
    words.keep("g", lines("other"))
    words.keep("f", lines("3", "4"))
    assert [line.text for line in words.of("f")] == ["2", "3", "4"]
    assert [line.text for line in words.of("g")] == ["other"]
    words.forget("f")
    assert words.of("f") == []


def test_of_all_functions_those_that_spoke_last_are_kept() -> None:
    words = LastWords(characters=100)
    for name in "abc":
        words.keep(name, lines("x" * 40))
    assert words.of("a") == []
    assert len(words.of("b")) == len(words.of("c")) == 1
    words.keep("d", lines("x" * 101))
    assert [words.of(name) for name in "abcd"] == [[], [], [], []]
    words.keep("e", lines("x" * 100))
    assert len(words.of("e")) == 1
