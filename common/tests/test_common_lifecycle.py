"""A service's life, in real processes: readiness, signals, the parent's end, failures."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from sanfran_common.lifecycle import LoopEnded, OwnedTasks

SERVICE = """
import asyncio, sys
from sanfran_common.config import ServiceConfig
from sanfran_common.lifecycle import CannotStart, run_service

async def main(life):
    if "fail" in sys.argv: raise RuntimeError("cannot start")
    if "file" in sys.argv: raise CannotStart("--users-file: users: no such file; try another")
    if "folder" in sys.argv: open("/nonexistent/folder")
    life.ready(http="127.0.0.1:1")
    if "later" in sys.argv: open("/nonexistent/folder")
    await life.wait_stop()
    if "hang" in sys.argv: await asyncio.sleep(60)
    print("stopped in order", flush=True)

run_service(main, ServiceConfig(exit_with_stdin="stdin" in sys.argv), "demo")
"""


def start(*args: str, notify: Path | None = None) -> subprocess.Popen[str]:
    environ = {"NOTIFY_SOCKET": str(notify)} if notify else {}
    return subprocess.Popen(
        [sys.executable, "-c", SERVICE, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    )


@pytest.fixture
def notify(tmp_path: Path) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(tmp_path / "notify"))
    receiver.settimeout(20)
    return receiver


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "stdin"])
def test_a_service_tells_its_parent_and_stops_in_order(
    how: str, tmp_path: Path, notify: socket.socket
) -> None:
    with notify, start("stdin", notify=tmp_path / "notify") as service:
        assert notify.recv(4096) == b"READY=1\nX_SANFRAN_HTTP=127.0.0.1:1"
        if how != "stdin":
            service.send_signal(signal.Signals[how])
        out, _ = service.communicate(timeout=20)
        assert (service.returncode, out) == (0, "stopped in order\n")
        assert notify.recv(4096) == b"STOPPING=1"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_no_other_process_of_the_user_can_read_a_services_secret(
    tmp_path: Path, notify: socket.socket
) -> None:
    with notify, start("stdin", notify=tmp_path / "notify") as service:
        notify.recv(4096)
        # Owned by root now: what the kernel does to processes that are not to be looked into.
        assert Path(f"/proc/{service.pid}/environ").stat().st_uid == 0
        read = "import os, sys; os.setuid(65534); open(f'/proc/{sys.argv[1]}/environ').read()"
        if os.getuid() == 0:
            done = subprocess.run([sys.executable, "-c", read, str(service.pid)], check=False)
            assert done.returncode != 0
        service.communicate(timeout=20)


def test_a_second_signal_exits_at_once(tmp_path: Path, notify: socket.socket) -> None:
    with notify, start("hang", notify=tmp_path / "notify") as service:
        notify.recv(4096)
        service.send_signal(signal.SIGTERM)
        assert service.stderr is not None
        while "stopping" not in service.stderr.readline():
            pass
        service.send_signal(signal.SIGTERM)
        assert service.wait(20) == 130


def test_a_service_whose_parent_was_killed_stops_though_nobody_reads_its_logs(
    tmp_path: Path, notify: socket.socket
) -> None:
    with notify, start("stdin", notify=tmp_path / "notify") as service:
        notify.recv(4096)
        for pipe in (service.stdout, service.stderr, service.stdin):
            assert pipe is not None
            pipe.close()
        service.wait(20)
        assert notify.recv(4096) == b"STOPPING=1"


def test_a_failure_is_logged_and_gives_exit_code_1() -> None:
    with start("fail") as service:
        _, err = service.communicate(timeout=20)
    assert service.returncode == 1
    assert "cannot start" in err


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("file", "--users-file: users: no such file; try another"),
        ("folder", "No such file or directory: '/nonexistent/folder'"),
    ],
)
def test_what_its_user_has_to_mend_is_told_in_one_line(what: str, says: str) -> None:
    with start(what) as service:
        _, err = service.communicate(timeout=20)
    assert service.returncode == 1
    (line,) = err.splitlines()
    assert "cannot start" in line
    assert says in line


def test_what_fails_in_a_service_that_was_ready_is_told_with_its_place() -> None:
    with start("later") as service:
        _, err = service.communicate(timeout=20)
    assert service.returncode == 1
    assert "Traceback" in err


def test_a_standard_input_that_cannot_tell_of_its_end_is_refused_in_words(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVICE, "stdin"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert "--exit-with-stdin needs a pipe as standard input" in done.stderr


async def test_a_loop_that_ends_early_brings_its_owner_down() -> None:
    async def short() -> None:
        return

    async def own() -> None:
        async with OwnedTasks("demo") as tasks:
            tasks.loop(short(), name="watch")
            await asyncio.Event().wait()

    with pytest.raises(LoopEnded, match="demo: watch ended"):
        await own()


async def test_a_loop_ended_by_a_cancellation_that_nobody_asked_for_brings_its_owner_down() -> None:
    async def wait_for_something_cancelled() -> None:
        cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        await cancelled

    async def own() -> None:
        async with OwnedTasks("owner") as tasks:
            tasks.loop(wait_for_something_cancelled(), name="loop")
            await asyncio.Event().wait()

    with pytest.raises(LoopEnded):
        await own()


async def test_a_loop_that_never_began_is_no_complaint() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    async with OwnedTasks("demo") as tasks:
        tasks.loop(forever(), name="work")


async def test_leaving_the_owner_cancels_its_tasks_and_waits_for_them() -> None:
    undone = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            undone.set()

    async with OwnedTasks("demo") as tasks:
        task = tasks.loop(forever(), name="work")
        assert task.get_name() == "demo: work"
        await asyncio.sleep(0)
    assert undone.is_set()


async def test_a_failing_task_is_its_owners_failure_as_it_is() -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    async def own() -> None:
        async with OwnedTasks("demo") as tasks:
            tasks.spawn(broken(), name="work")
            await asyncio.Event().wait()

    with pytest.raises(ZeroDivisionError):
        await own()
