"""The whole engine, started as a user starts it, for end-to-end tests and benchmarks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

START_TIMEOUT = 60.0
"""Seconds for the `ready:` line, on a machine that does much else."""
STOP_TIMEOUT = 5.0
"""Seconds: what the project promises for Ctrl-C."""

SANFRAN = Path(sys.executable).with_name("sanfran")


class Engine:
    """`sanfran up` as a child process, on free ports. Use it with `with`."""

    def __init__(self, data: Path, *flags: str) -> None:
        self.data = data
        self.url = ""
        self.output: list[str] = []
        self._flags = flags
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [SANFRAN, "up", "--port", "0", "--api-port", "0", "--data", self.data, *self._flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # As in a terminal: Ctrl-C reaches the whole process group.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="engine output")
        self._reader.start()
        try:
            self._ready.wait(START_TIMEOUT)
        except KeyboardInterrupt:  # which does not reach it, in its session
            self.kill()
            raise
        if not self.url:
            self.kill()
            raise RuntimeError("the engine did not start:\n" + "".join(self.output))
        self.http = httpx.Client(base_url=self.url, timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        else:
            self._close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if line.startswith("ready: "):
                self.url = line.removeprefix("ready: ").strip()
                self._ready.set()
        self._ready.set()

    @property
    def run(self) -> dict[str, Any]:
        """What the engine says of itself in its data folder."""
        found: dict[str, Any] = json.loads((self.data / "run.json").read_text())
        return found

    @property
    def api(self) -> str:
        """Base URL of the REST service."""
        url: str = self.run["api"]
        return url

    def processes(self) -> list[psutil.Process]:
        """The engine's processes, itself first."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def service_pid(self, name: str) -> int:
        """Process id of one service: api, controller, router or pod-host."""
        pid: int = self.run["services"][name]["pid"]
        return pid

    def controllers(self) -> list[str]:
        """The names of its controllers."""
        return [name for name in self.run["services"] if name.startswith("controller")]

    def nodes(self) -> list[psutil.Process]:
        """The Node processes of its pods."""
        found = []
        for process in psutil.Process(self.service_pid("pod-host")).children(recursive=True):
            try:
                if Path(process.exe()).name == "node":
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found

    def cli(
        self, *args: str | Path, check: bool = True, given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a `sanfran` command against this engine.

        Args:
            given: to its standard input.
        """
        done = subprocess.run(
            [SANFRAN, *map(str, args)],
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "SANFRAN_API": self.api},
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"sanfran {args}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def deploy(self, name: str, code: str, *flags: str, suffix: str = ".js") -> None:
        """Creates a function from source text."""
        path = self.data.parent / f"{name}{suffix}"
        path.write_text(code)
        self.cli("create", name, path, *flags)

    def stop(self) -> list[str]:
        """Ctrl-C, as a terminal sends it. Returns what is left of the engine after it (nothing)."""
        processes = self.processes()
        os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(STOP_TIMEOUT)
        finally:
            _, left = psutil.wait_procs(processes, timeout=0.5)
            names = [_describe(process) for process in left]
            self.kill(left)
        return names

    def kill(self, processes: Sequence[psutil.Process] = ()) -> None:
        """Ends what is still there, for tests that failed."""
        if self.process.poll() is None:
            processes = [*processes, *self.processes()]
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()
        self._close()

    def _close(self) -> None:
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        if hasattr(self, "http"):
            self.http.close()


def _describe(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return f"pid {process.pid}"


def until(happened: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    """Waits for it.

    Raises:
        TimeoutError: it did not happen in time.
    """
    given_up = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > given_up:
            raise TimeoutError(f"did not happen in time: {what}")
        time.sleep(0.02)


@contextmanager
def engine(data: Path, *flags: str) -> Iterator[Engine]:
    """An engine that must leave no process behind at its end."""
    with Engine(data, *flags) as running:
        yield running
        if running.process.poll() is None:
            assert running.stop() == []
