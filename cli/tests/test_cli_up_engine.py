"""The engine as a process, with fake services: order, locks, and that nothing is ever left."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psutil
from sanfran_cli.up.engine import STOP_ORDER

ENGINE = str(Path(__file__).with_name("fake_engine.py"))
PATIENCE = 15.0


class Running:
    """A fake engine, started."""

    def __init__(self, folder: Path, *behaviours: str) -> None:
        self.data = folder / "data"
        self.ledger = folder / "ledger"
        command = [sys.executable, ENGINE, str(self.data), str(self.ledger), *behaviours]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a process group of its own, as a terminal gives
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def until_ready(self) -> Self:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready:\n"
        return self

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data / "run.json").read_text())
        return found

    def services(self) -> list[psutil.Process]:
        return [psutil.Process(one["pid"]) for one in self.record["services"].values()]

    def end(self) -> tuple[int, str]:
        """Exit code and what was written to stderr."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors

    def stopped(self) -> list[str]:
        lines = self.ledger.read_text().splitlines()
        return [line.split()[0] for line in lines if "stopped" in line]


def lives(process: psutil.Process) -> bool:
    """An orphan that ended may stay a zombie where nobody's init collects it."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def until_it_is_back(one: Running, before: int) -> None:
    while (router := one.record["services"]["router"])["pid"] == before or not router["ready"]:
        os.sched_yield()


@contextmanager
def engine(folder: Path, *behaviours: str) -> Iterator[Running]:
    with Running(folder, *behaviours) as one:
        yield one.until_ready()


def test_ctrl_c_stops_the_services_in_order_and_leaves_nothing(tmp_path: Path) -> None:
    with engine(tmp_path) as one:
        record, services = one.record, one.services()
        assert {name: at["ready"] for name, at in record["services"].items()} == dict.fromkeys(
            STOP_ORDER, True
        )
        os.killpg(one.process.pid, signal.SIGINT)
        assert one.end() == (0, "")
    assert one.stopped() == list(STOP_ORDER)
    assert "met SIGINT" not in one.ledger.read_text()
    assert not any(map(lives, services))
    assert not (one.data / "run.json").exists()
    assert not Path(record["run_folder"]).exists()


def test_sighup_and_sigterm_stop_it_too(tmp_path: Path) -> None:
    for which in (signal.SIGHUP, signal.SIGTERM):
        folder = tmp_path / which.name
        folder.mkdir()
        with engine(folder) as one:
            one.process.send_signal(which)
            assert one.end()[0] == 0
        assert one.stopped() == list(STOP_ORDER)


def test_a_stubborn_service_is_killed_within_the_promised_time(tmp_path: Path) -> None:
    with engine(tmp_path, "controller:stubborn") as one:
        services = one.services()
        one.process.send_signal(signal.SIGINT)
        one.process.wait(5)
        assert not any(map(lives, services))
        assert one.stopped() == ["router", "pod-host", "api"]


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    with engine(tmp_path, "router:stubborn", "controller:stubborn") as one:
        services = one.services()
        one.process.send_signal(signal.SIGINT)
        while "router ignored SIGTERM" not in one.ledger.read_text():
            os.sched_yield()
        one.process.send_signal(signal.SIGINT)
        assert one.end()[0] == 0
        assert not any(map(lives, services))
        assert one.stopped() == []


def test_an_engine_killed_hard_leaves_no_service_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    with engine(tmp_path) as first:
        services, run = first.services(), Path(first.record["run_folder"])
        first.process.kill()
        # At once: it has to wait for the former services by itself.
        with Running(tmp_path).until_ready() as second:
            assert not any(map(lives, services))
            assert Path(second.record["run_folder"]) == run
            second.process.send_signal(signal.SIGTERM)
            assert second.end()[0] == 0
    assert not run.exists()


def test_a_second_engine_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with engine(tmp_path) as one:
        with Running(tmp_path) as second:
            code, errors = second.end()
        assert code == 1
        assert f"already runs on {one.data} at http://127.0.0.1:1, pid {one.process.pid}" in errors
        one.process.send_signal(signal.SIGTERM)
        assert one.end()[0] == 0


def test_a_service_that_cannot_start_ends_the_engine_with_its_last_words(tmp_path: Path) -> None:
    with Running(tmp_path, "router:broken") as one:
        code, errors = one.end()
    assert code == 1
    assert "the router service ended with exit code 3 before it was ready" in errors
    assert "cannot find the sea" in errors
    assert not (one.data / "run.json").exists()
    pids = [int(x.split()[-1]) for x in one.ledger.read_text().splitlines() if "started" in x]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_ctrl_c_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    with Running(tmp_path, "router:silent") as one:
        while not one.ledger.exists() or one.ledger.read_text().count("started") < 4:
            os.sched_yield()
        pids = [int(x.split()[-1]) for x in one.ledger.read_text().splitlines() if "started" in x]
        one.process.send_signal(signal.SIGINT)
        assert one.end()[0] == 0
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_service_killed_while_running_comes_back_in_the_record(tmp_path: Path) -> None:
    with engine(tmp_path) as one:
        before = one.record["services"]["router"]["pid"]
        os.kill(before, signal.SIGKILL)
        until_it_is_back(one, before)
        one.process.send_signal(signal.SIGTERM)
        code, errors = one.end()
    assert code == 0
    assert "was ended by SIGKILL; starting it again at once" in errors


def test_an_engine_whose_terminal_has_gone_lives_on_and_ends_well(tmp_path: Path) -> None:
    with Running(tmp_path) as one:
        assert one.process.stdout is not None
        assert one.process.stderr is not None
        one.process.stdout.close()
        one.process.stderr.close()
        while not (one.data / "run.json").exists() or not all(
            service["ready"] for service in one.record["services"].values()
        ):
            os.sched_yield()
        before = one.record["services"]["router"]["pid"]
        os.kill(before, signal.SIGKILL)  # which has it write to its standard error
        until_it_is_back(one, before)
        one.process.send_signal(signal.SIGHUP)
        assert one.process.wait(PATIENCE) == 0
        assert one.stopped() == list(STOP_ORDER)


def test_an_engine_that_cannot_write_its_record_says_so_and_goes_on(tmp_path: Path) -> None:
    with engine(tmp_path) as one:
        before = one.services()
        # As on a full disk: the fresh record cannot be opened.
        (one.data / "run.new").mkdir()
        router = next(
            each for each in before if each.pid == one.record["services"]["router"]["pid"]
        )
        router.kill()
        while len(one.ledger.read_text().split("router started")) < 3:
            os.sched_yield()
        one.process.send_signal(signal.SIGINT)
        code, errors = one.end()
    assert code == 0
    assert errors.count("run.json cannot be written: Is a directory") == 1
    assert not [each for each in before if lives(each)]
