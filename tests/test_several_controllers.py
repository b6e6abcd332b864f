"""Two controllers and two router workers, as processes, under load: each function is activated once, and one that dies
or hangs costs no request and no warm function."""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.engine import Engine, engine

PID = "module.exports = (req, res) => res.send(String(process.pid));"
VERSION = "module.exports = (req, res) => res.send('%s');"
CONTROLLERS = ("controller", "controller-2")
ADOPTED_WITHIN = 10.0
"""Seconds, of which the lease is five."""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Engine]:
    flags = ("--controllers", "2", "--router-workers", "2", "--pool-size", "4")
    with engine(tmp_path / "data", *flags) as one:
        yield one


def until(true: Callable[[], bool], what: str, seconds: float = 20.0) -> float:
    """Waits for it; returns the seconds that it took."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > seconds:
            pytest.fail(f"did not happen in time: {what}")
        time.sleep(0.02)
    return time.monotonic() - began


def metric(running: Engine, controller: str, name: str) -> float:
    admin = running.run["services"][controller]["admin"]
    text = httpx.get(f"http://{admin}/metrics").text
    found = re.search(rf"^sanfran_controller_{re.escape(name)} (\S+)", text, re.M)
    return float(found[1]) if found else 0.0


def pods(running: Engine, controller: str, state: str) -> float:
    return metric(running, controller, f'pods{{state="{state}"}}')


def serving(running: Engine, name: str) -> list[str]:
    """The names of a function's pods."""
    function = running.http.get(f"{running.api}/api/v1/functions/{name}").json()
    return [pod["pod"] for pod in function["status"]["pods"]]


def creators(running: Engine, names: list[str]) -> dict[str, str]:
    """The controller that created each function's one pod."""
    found = {}
    for name in names:
        [pod] = serving(running, name)
        found[name] = pod.rpartition("-")[0]
    return found


class Load:
    """Calls functions in turn, without end, from several connections."""

    def __init__(self, running: Engine, paths: list[str], callers: int = 4) -> None:
        self.answers = 0
        self.failed: list[str] = []
        self._url = running.url
        self._paths = itertools.cycle(paths)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def _call(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._over.is_set():
                path = next(self._paths)
                try:
                    answer = client.get(path)
                except httpx.TransportError as error:
                    self.failed.append(f"{path}: {error!r}")
                    continue
                self.answers += 1
                if answer.status_code != 200:
                    self.failed.append(f"{path}: {answer.status_code} {answer.text}")

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()
        assert not self.failed, (len(self.failed), self.answers, self.failed[:5])


def deployed(running: Engine, count: int, code: str = PID) -> list[str]:
    names = [f"f{number}" for number in range(count)]
    for name in names:
        running.deploy(name, code)
    return names


def test_each_function_is_activated_once_and_both_controllers_have_some(running: Engine) -> None:
    names = deployed(running, 12)
    load = Load(running, [f"/fn/{name}" for name in names], callers=8)
    with load.running():
        until(lambda: load.answers > 300, "answers")
    owners = creators(running, names)
    assert set(owners.values()) == set(CONTROLLERS)
    made = [metric(running, one, 'activations_total{outcome="ok"}') for one in CONTROLLERS]
    assert sum(made) == len(names)
    # Where pods start slowly, the target stays above the share until half a minute has told of no claims.
    until(
        lambda: [pods(running, one, "generic") for one in CONTROLLERS] == [2, 2],
        "both shares",
        seconds=80.0,
    )


def test_kill_9_of_a_controller_under_load_costs_nothing(running: Engine) -> None:
    names = deployed(running, 6)
    before = {name: running.http.get(f"/fn/{name}").text for name in names}
    killed = running.service_pid("controller-2")
    load = Load(running, [f"/fn/{name}" for name in names])
    with load.running():
        os.kill(killed, signal.SIGKILL)
        for number in range(6):  # cold calls go to the other one
            running.deploy(f"cold{number}", PID)
            assert running.http.get(f"/fn/cold{number}").status_code == 200
        until(
            lambda: (
                running.run["services"]["controller-2"]["ready"]
                and running.service_pid("controller-2") != killed
            ),
            "a new controller",
        )
    assert {name: running.http.get(f"/fn/{name}").text for name in names} == before


def test_a_controller_that_hangs_loses_its_pods_to_the_other_and_finds_out_when_it_is_back(
    running: Engine,
) -> None:
    names = deployed(running, 6)
    before = {name: running.http.get(f"/fn/{name}").text for name in names}
    owners = creators(running, names)
    hung = running.service_pid("controller")
    theirs = list(owners.values()).count("controller")
    load = Load(running, [f"/fn/{name}" for name in names])
    with load.running():
        os.kill(hung, signal.SIGSTOP)
        try:
            for number in range(4):  # the home of some hangs
                running.deploy(f"cold{number}", PID)
                assert running.http.get(f"/fn/cold{number}").status_code == 200
            took = until(
                lambda: metric(running, "controller-2", "pods_adopted_total") >= theirs + 2,
                "adoption",
            )
            assert took < ADOPTED_WITHIN
            assert {name: running.http.get(f"/fn/{name}").text for name in names} == before
            until(lambda: pods(running, "controller-2", "generic") >= 4, "the whole pool")
        finally:
            os.kill(hung, signal.SIGCONT)
        everything = [*names, *(f"cold{number}" for number in range(4))]

        def settled() -> bool:
            active = [pods(running, one, "active") for one in CONTROLLERS]
            alone = all(len(serving(running, name)) == 1 for name in everything)
            return alone and sum(active) == len(everything) and min(active) > 0

        # Its functions come back to it: first one more pod each, then the other one's end.
        until(settled, "each function at one controller again")
    assert creators(running, names) == owners


def test_updates_and_deletions_reach_functions_of_a_controller_that_hangs(
    running: Engine,
) -> None:
    names = deployed(running, 6, VERSION % 1)
    for name in names:
        assert running.http.get(f"/fn/{name}").text == "1"
    owners = creators(running, names)
    most = max(CONTROLLERS, key=list(owners.values()).count)
    name, gone = [name for name in names if owners[name] == most][:2]
    hung = running.service_pid(most)
    os.kill(hung, signal.SIGSTOP)
    try:
        path = running.data.parent / f"{name}.js"
        path.write_text(VERSION % 2)
        said = running.cli("update", name, path)
        assert running.http.get(f"/fn/{name}").text == "2", said.stdout
        running.cli("delete", gone)
        assert running.http.get(f"/fn/{gone}").status_code == 404
        running.deploy(gone, VERSION % 3)
        assert running.http.get(f"/fn/{gone}").text == "3"
    finally:
        os.kill(hung, signal.SIGCONT)
    with Load(running, [f"/fn/{name}"]).running():
        until(lambda: len(serving(running, name)) == 1, "one home")
    assert running.http.get(f"/fn/{name}").text == "2"
    assert running.http.get(f"/fn/{gone}").text == "3"


def test_min_scale_and_idle_timeouts_go_on_when_a_controller_hangs(running: Engine) -> None:
    for number in range(4):
        running.deploy(f"kept{number}", PID, "--min-scale", "1")
        running.deploy(f"idle{number}", PID, "--idle-timeout", "2")
        running.http.get(f"/fn/idle{number}").raise_for_status()
    until(
        lambda: sum(pods(running, one, "active") for one in CONTROLLERS) >= 4, "those that are kept"
    )
    hung = running.service_pid("controller")
    os.kill(hung, signal.SIGSTOP)
    try:
        until(
            lambda: (
                metric(running, "controller-2", "pods_adopted_total") >= 1
                and pods(running, "controller-2", "active") == 4
                and pods(running, "controller-2", "generic") >= 4
            ),
            "kept ones and the pool, and nothing idle",
            ADOPTED_WITHIN + 10,
        )
    finally:
        os.kill(hung, signal.SIGCONT)
