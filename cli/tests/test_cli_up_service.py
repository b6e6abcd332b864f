"""One kept process: ready, started again, stopped, killed. Real processes, short lives."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sanfran_cli.up.backoff import LONGEST_SECONDS, STEADY_SECONDS, Backoff
from sanfran_cli.up.logs import ServiceLog
from sanfran_cli.up.service import Service, StartFailed
from sanfran_common.lifecycle import OwnedTasks

FAKE = str(Path(__file__).with_name("fake_service.py"))
PATIENCE = 10.0


class Kept:
    """A service, and its changes to wait for."""

    def __init__(self, folder: Path, run: Path, behaviour: str) -> None:
        self.ledger = folder / "ledger"
        self.log = ServiceLog("sea", folder)
        self.log.starting = False
        self.changes = asyncio.Condition()
        command = [sys.executable, "-S", FAKE, "sea", str(self.ledger), behaviour]
        self._changed = asyncio.Event()
        self.service = Service(
            "sea", command, environ=os.environ, run=run, log=self.log, changed=self._changed.set
        )

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    def lived(self) -> int:
        return self.ledger.read_text().count("started")

    async def stop(self, seconds: float = PATIENCE) -> None:
        await self.service.stop(asyncio.get_running_loop().time() + seconds)


Keep = Callable[[str], Awaitable[Kept]]


@asynccontextmanager
async def kept(folder: Path, behaviour: str) -> AsyncIterator[Kept]:
    # pytest's own folders are too deep for a socket's path.
    with TemporaryDirectory(prefix="sanfran-") as run:
        one = Kept(folder, Path(run), behaviour)
        async with OwnedTasks("test") as tasks:
            tasks.spawn(one.service.keep(), name="keep")
            yield one
            one.service.kill()
        one.log.close()


async def test_a_service_is_ready_with_the_addresses_it_tells(tmp_path: Path) -> None:
    async with kept(tmp_path, "good") as one:
        await one.service.first_ready
        assert one.service.addresses == {"http": "127.0.0.1:1", "name": "sea"}
        assert one.service.is_ready
        await one.stop()
    assert one.ledger.read_text().endswith("sea stopped by SIGTERM\n")
    assert one.service.pid is None


async def test_a_service_that_dies_is_started_again_at_once(tmp_path: Path) -> None:
    async with kept(tmp_path, "good") as one:
        await one.service.first_ready
        assert one.service.pid is not None
        first = one.service.pid
        os.kill(first, 9)
        await one.until(lambda: one.service.is_ready and one.service.pid != first)
        assert one.lived() == 2
        assert any("was ended by SIGKILL; starting it again at once" in x for x in one.log.last)


async def test_a_service_that_dies_again_and_again_waits_longer_each_time(tmp_path: Path) -> None:
    async with kept(tmp_path, "dies") as one:
        await one.until(lambda: any("in 0.2 s" in line for line in one.log.last))
        assert any("at once" in line for line in one.log.last)
        assert one.lived() == 2
        # The stop does not wait for the pause to end.
        await one.stop()
    assert one.lived() <= 3


async def test_a_first_start_that_fails_shows_the_last_lines(tmp_path: Path) -> None:
    async with kept(tmp_path, "broken") as one:
        with pytest.raises(StartFailed) as failed:
            await one.service.first_ready
    assert "the sea service ended with exit code 3 before it was ready" in str(failed.value)
    assert "cannot find the sea" in str(failed.value)
    assert one.lived() == 1


async def test_a_program_that_does_not_exist_is_a_failed_start(tmp_path: Path) -> None:
    with TemporaryDirectory(prefix="sanfran-") as run:
        log = ServiceLog("sea", tmp_path)
        service = Service("sea", ["/no/such"], environ=os.environ, run=Path(run), log=log)
        await service.keep()
        with pytest.raises(StartFailed, match="could not be started"):
            await service.first_ready
        log.close()


async def test_a_stubborn_service_is_killed_at_the_deadline(tmp_path: Path) -> None:
    async with kept(tmp_path, "stubborn") as one:
        await one.service.first_ready
        await one.stop(0.2)
        assert one.service.pid is None
        assert any("did not stop in time; killed" in line for line in one.log.last)


async def test_a_stop_before_readiness_ends_the_process(tmp_path: Path) -> None:
    async with kept(tmp_path, "silent") as one:
        await one.until(lambda: one.service.pid is not None)
        await one.stop()
        assert not one.service.first_ready.done()


async def test_a_keeper_that_is_cancelled_takes_the_process_along(tmp_path: Path) -> None:
    with TemporaryDirectory(prefix="sanfran-") as run:
        one = Kept(tmp_path, Path(run), "stubborn")
        async with OwnedTasks("test") as tasks:
            tasks.spawn(one.service.keep(), name="keep")
            await one.service.first_ready
            pid = one.service.pid
        one.log.close()
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_lines_go_to_the_file_and_warnings_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with kept(tmp_path, "talkative") as one:
        await one.service.first_ready
        await one.stop()
    shown = capsys.readouterr().err
    assert "high tide  metres=3" in shown
    assert "low tide" not in shown
    written = one.log.path.read_text()
    assert "low tide" in written
    # No line, however long, is held in memory as a whole.
    assert max(len(line) for line in written.splitlines()) < 200_000


def test_the_pause_doubles_up_to_its_longest_and_starts_over_after_a_steady_time() -> None:
    backoff = Backoff()
    delays = [backoff.delay_after(1.0) for _ in range(40)]
    assert delays[:4] == [0.0, 0.2, 0.4, 0.8]
    assert delays[-1] == LONGEST_SECONDS
    assert delays == sorted(delays)
    assert backoff.delay_after(STEADY_SECONDS) == 0.0
