"""What the engine keeps on disk: the data folder, its locks, run.json, and the private run folder."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sanfran_cli.errors import Refused

RUN_PREFIX = "sanfran-"
LONGEST_RUN_FOLDER = 60
"""A Unix socket's path has 103 bytes on macOS; services name theirs below the run folder."""
FORMER_SERVICES_SECONDS = 10.0


def default_data() -> Path:
    """Where functions are kept without --data."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local/share") / "sanfran"


class DataFolder:
    """The data folder of one running engine. A context manager.

    Two locks: `up.lock` is this process's, and says that an engine runs. `services.lock` is
    inherited by the services: after this process was killed, the next start waits there until
    they are gone, instead of meeting their ports and files.

    Args:
        path: of the folder; made when there is none.

    Raises:
        Refused: another engine runs on it, or it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self.services_lock = -1
        self.run = Path()
        self._record = path / "run.json"
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            try:
                self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
                self.logs.mkdir(exist_ok=True)
                self._claim(opened)
                self.run = self._former_run() or _make_run_folder()
            except OSError as error:
                raise Refused(f"--data {self.path}: {error.strerror or error}") from error
            opened.callback(shutil.rmtree, self.run, ignore_errors=True)
            opened.callback(self._record.unlink, missing_ok=True)
            self._open = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def record(self, facts: dict[str, Any]) -> None:
        """Writes run.json: whole or not at all, whenever someone looks.

        Raises:
            OSError: the disk took no more, or the folder is gone; the former one stays.
        """
        fresh = self._record.with_suffix(".new")
        fresh.write_text(json.dumps({**facts, "run_folder": str(self.run)}, indent=2) + "\n")
        fresh.replace(self._record)

    def _claim(self, opened: ExitStack) -> None:
        ours = _open_lock(self.path / "up.lock", opened)
        try:
            fcntl.flock(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(self._who_runs()) from None
        self.services_lock = _open_lock(self.path / "services.lock", opened)
        # A thread, because flock knows no timeout; it dies with the process.
        waiting = threading.Thread(
            target=fcntl.flock, args=(self.services_lock, fcntl.LOCK_EX), daemon=True
        )
        waiting.start()
        waiting.join(FORMER_SERVICES_SECONDS)
        if waiting.is_alive():
            left = " ".join(str(pid) for pid in self._former_pids() if _lives(pid))
            what = f"end them: kill -9 {left}" if left else "wait until they have ended"
            raise Refused(f"services of an engine that was killed still use {self.path}; {what}")

    def _who_runs(self) -> str:
        former = self._former()
        where = f" at {former['url']}, pid {former['pid']}" if "pid" in former else ""
        return f"an engine already runs on {self.path}{where}; stop it, or use another --data"

    def _former_pids(self) -> list[int]:
        services = self._former().get("services", {})
        return [one["pid"] for one in services.values() if one.get("pid")]

    def _former(self) -> dict[str, Any]:
        try:
            former = json.loads(self._record.read_text())
        except (OSError, ValueError):
            return {}
        return former if isinstance(former, dict) else {}

    def _former_run(self) -> Path | None:
        """The run folder of an engine that was killed; the pod host clears up what it has of pods."""
        run = Path(str(self._former().get("run_folder", "")))
        if not run.name.startswith(RUN_PREFIX) or run.is_symlink() or not run.is_dir():
            return None
        if run.stat().st_uid != os.getuid():
            return None
        for path in run.iterdir():
            if not path.is_dir():
                path.unlink()
        return run


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _open_lock(path: Path, opened: ExitStack) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    opened.callback(os.close, lock)
    return lock


def _make_run_folder() -> Path:
    base = tempfile.gettempdir()
    if len(base) + len(RUN_PREFIX) + 10 > LONGEST_RUN_FOLDER:
        base = "/tmp"  # sockets in a long TMPDIR could not be bound
    return Path(tempfile.mkdtemp(prefix=RUN_PREFIX, dir=base))
