"""The router of a whole engine: outages of all that it asks, and events through all that there is."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import httpx
import pytest

from tests.engine import Engine, engine

PID = "module.exports = (req, res) => res.send(String(process.pid));"
EVENTS = """
let events, left = false;
module.exports = (req, res) => {
  if (req.path === '/next') { events.write(`data: ${req.query.n}\\n\\n`); return res.send('sent'); }
  if (req.path === '/left') return res.send(String(left));
  events = res.type('text/event-stream');
  req.signal.addEventListener('abort', () => { left = true; });
  res.write('data: 0\\n\\n');
};
"""
SECONDS = 30.0
"""For what takes a few on an idle machine."""
COLD_SECONDS = 12.0
"""A cold request's wait for a pod (--queue-timeout) and a little."""


def tries(what: str) -> Iterator[None]:
    """Until what is wanted has happened; fails when it does not."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        yield
        time.sleep(0.05)
    pytest.fail(f"did not happen in time: {what}")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("engine") / "data", "--pool-size", "2") as one:
        one.deploy("warm", PID)
        one.deploy("cold", PID)
        one.deploy("cold-too", PID)
        one.deploy("events", EVENTS)
        yield one


@contextmanager
def held(pids: Sequence[int]) -> Iterator[None]:
    """Processes that stand still: they answer nothing, and refuse nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def answering(running: Engine, name: str) -> Iterator[list[str]]:
    """Calls a function all the time; gives what it answers. All must have been 200."""
    stop = threading.Event()
    statuses: list[int] = []
    answers: list[str] = []

    def call() -> None:
        with httpx.Client(base_url=running.url, timeout=SECONDS) as client:
            while not stop.wait(0.02):
                answer = client.get(f"/fn/{name}")
                statuses.append(answer.status_code)
                answers.append(answer.text)

    caller = threading.Thread(target=call, name="caller")
    caller.start()
    try:
        yield answers
    finally:
        stop.set()
        caller.join()
    assert set(statuses) == {200}


def assert_no_capacity(running: Engine, name: str) -> None:
    answer = running.http.get(f"/fn/{name}", timeout=COLD_SECONDS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_capacity")
    assert int(answer.headers["retry-after"]) > 0


def wait_answered(running: Engine, name: str) -> str:
    for _ in tries(f"{name} answers"):
        with suppress(httpx.TransportError):
            answer = running.http.get(f"/fn/{name}")
            if answer.status_code == 200:
                return answer.text
    raise AssertionError


def test_warm_functions_outlast_the_death_of_all_controllers_and_the_api(running: Engine) -> None:
    process = wait_answered(running, "warm")
    dead = [running.service_pid(name) for name in ("controller", "api")]
    with answering(running, "warm") as answers:
        # Who would start them again stands still, so that the outage lasts as long as wanted here.
        with held([running.process.pid]):
            for pid in dead:
                os.kill(pid, signal.SIGKILL)
            assert_no_capacity(running, "cold")
            during = len(answers)
        assert during > 10
        wait_answered(running, "cold")
    assert set(answers) == {process}, "no pod was changed for another"


def test_a_router_that_starts_while_controllers_hang_says_503_until_they_are_back(
    running: Engine,
) -> None:
    process = wait_answered(running, "warm")
    before = running.service_pid("router")
    with held([running.service_pid(name) for name in ("controller", "api")]):
        os.kill(before, signal.SIGKILL)
        for _ in tries("a new router listens"):
            with suppress(httpx.TransportError):
                if running.service_pid("router") not in (before, None):
                    assert running.http.get("/").status_code == 200
                    break
        assert_no_capacity(running, "warm")
    assert wait_answered(running, "warm") == process
    wait_answered(running, "cold-too")


def test_events_arrive_one_by_one_and_the_handler_sees_its_client_leave(running: Engine) -> None:
    with running.http.stream("GET", "/fn/events", headers={"Accept": "text/event-stream"}) as got:
        assert got.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in got.iter_lines() if line)
        assert next(lines) == "data: 0"
        for number in range(1, 6):
            # The next one is sent only when the former has been seen.
            assert running.http.get(f"/fn/events/next?n={number}").text == "sent"
            assert next(lines) == f"data: {number}"
    for _ in tries("the handler sees that its client left"):
        if running.http.get("/fn/events/left").text == "true":
            break
