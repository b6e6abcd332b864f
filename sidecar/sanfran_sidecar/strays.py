"""Processes that left their pod's process group.

Function code may start a process with `setsid`, which a kill of the group does not reach. On Linux
the sidecar's process makes itself the reaper of all its descendants (PR_SET_CHILD_SUBREAPER), so an
orphan becomes its child, whatever the orphan does to its environment. When a pod's process has
been killed, every child that is neither another pod's process nor bears another living pod's
folder in its environment is killed, until there is none: a process that hides where it comes from
dies with the first pod that ends. Elsewhere only the group is killed. What forks and exits all the
time, each process living less than a millisecond, is faster than the search and escapes it; only a
PID namespace of its own, as in a Kubernetes pod, ends that.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import sys
from pathlib import Path
from types import FrameType, TracebackType
from typing import Protocol, Self

from sanfran_common.telemetry.logs import get_logger

from sanfran_sidecar.waiting import Changes, in_thread

log = get_logger("strays")

PR_SET_CHILD_SUBREAPER = 36
PROC = Path("/proc")
PATIENCE = 2.0
"""Seconds that killed strays may take to die; longer only when the kernel holds them."""


class Strays(Protocol):
    """What a launcher needs: who its processes are, and an end for what they leave behind."""

    def add(self, pid: int, folder: Path) -> None:
        """A pod's process, just started as a child."""

    def discard(self, pid: int) -> None:
        """It has been reaped."""

    async def end(self, folder: Path) -> None:
        """Kills what the dead process with that private folder left; returns when it is gone."""


class NoStrays:
    """Where descendants cannot be had, or where the process has other children."""

    def add(self, pid: int, folder: Path) -> None:
        """Nothing to know."""

    def discard(self, pid: int) -> None:
        """Nothing to forget."""

    async def end(self, folder: Path) -> None:
        """Nothing to do: the group was killed."""


class Subreaper:
    """The reaper of all descendants. Only for a process that starts pods and no other children.

    Use it with `with`, in the main thread of a running event loop.
    """

    def __init__(self) -> None:
        self._folders: dict[int, bytes] = {}
        self._changes = Changes()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Self:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
        self._loop = asyncio.get_running_loop()
        # uvloop keeps SIGCHLD for its own subprocesses, of which there are none here.
        signal.signal(signal.SIGCHLD, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def add(self, pid: int, folder: Path) -> None:
        """See `Strays.add`."""
        self._folders[pid] = os.fsencode(folder)

    def discard(self, pid: int) -> None:
        """See `Strays.discard`."""
        del self._folders[pid]
        self._reap()  # it may have hidden others, see there

    async def end(self, folder: Path) -> None:
        """See `Strays.end`."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            seen = self._changes.count
            living = [one for one in self._folders.values() if one != os.fsencode(folder)]
            found = await in_thread(_find_strays, frozenset(self._folders), living)
            if not found:
                return
            for pid in found:
                if pid not in self._folders and _parent(pid) == os.getpid():
                    _kill(pid)
            if asyncio.get_running_loop().time() > deadline:
                log.warning("strays do not die", pids=found)
                return
            try:
                async with asyncio.timeout(0.1):
                    await self._changes.wait(seen)
            except TimeoutError:
                pass

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._reap)

    def _reap(self) -> None:
        """Takes the exit status of dead strays, so that no zombie stays.

        A pod's own process is left to its launcher; while it is first in the queue it hides
        others, and `discard` comes back for them.
        """
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if dead is None or dead.si_pid in self._folders:
                return
            os.waitpid(dead.si_pid, os.WNOHANG)
            self._changes.notify()


def make_strays() -> Subreaper | None:
    """The best that the system has for a process of its own; None: nothing beyond the group."""
    return Subreaper() if sys.platform == "linux" else None


def _find_strays(known: frozenset[int], living: list[bytes]) -> list[int]:
    """Children of this process that belong to no living pod. Runs in a thread."""
    strays = []
    for pid in _children(os.getpid()):
        if pid in known:
            continue
        environ = _environ(pid)
        if not any(b"=" + folder + b"/" in environ for folder in living):
            strays.append(pid)
    return strays


def _children(parent: int) -> list[int]:
    # /proc/<pid>/task/*/children would be shorter, but not every kernel has it, and it may omit
    # a child when another one exits meanwhile.
    return [pid for pid in _processes() if _parent(pid) == parent]


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir(PROC) if entry.isdigit()]


def _parent(pid: int) -> int:
    # Plain calls: pathlib would make the search through all processes five times as long.
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return -1
    try:
        stat = os.read(fd, 512)
    except OSError:
        return -1
    finally:
        os.close(fd)
    # After the name, which is in parentheses and may contain anything: state, then parent.
    return int(stat.rpartition(b")")[2].split(None, 2)[1])


def _environ(pid: int) -> bytes:
    try:
        return (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return b""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def kill_leftovers(run_folder: Path, pod_prefix: str) -> int:
    """Kills processes whose environment names a pod folder of an earlier owner of the run folder.

    The runtime ends by itself when its sidecar dies, unless a handler holds its event loop; what
    functions started with `setsid` does not. Call it before any pod is started. Blocks. Linux only.

    Returns:
        How many were killed.
    """
    if sys.platform != "linux":
        return 0
    marker = re.compile(
        rb"(?:^|\0)(?:HOME|TMPDIR|SANFRAN_CONTROL)="
        + re.escape(os.fsencode(run_folder / pod_prefix))
        + rb"[0-9a-f]{16}/"
    )
    killed = 0
    for pid in _processes():
        if marker.search(_environ(pid)):
            try:
                process = os.pidfd_open(pid)
            except OSError:
                continue
            try:
                # Looked at again: between the two looks the number may have got a new owner.
                if marker.search(_environ(pid)):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    killed += 1
            except ProcessLookupError:
                pass
            finally:
                os.close(process)
    return killed
