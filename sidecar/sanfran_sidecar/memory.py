"""How much memory a process has, together with what it started.

What counts is what no file backs: heaps, buffers, stacks. The pages of the Node executable are shared by
all processes of the machine, and a limit that counted them would say less about the function.
"""

from __future__ import annotations

import os
import sys
import time

from sanfran_sidecar.waiting import in_thread

PAGE = os.sysconf("SC_PAGE_SIZE")
LOOK_EVERY = 1.0
"""Seconds between looks through all processes of the machine, which cost 0.02 ms for each of them."""


class SessionMemory:
    """Memory of sessions, each the process that began it and those that it started.

    A process that left the session (`setsid`) is not counted. One look through the process table
    serves all who ask within a second; the process that began the session is read each time.
    """

    def __init__(self) -> None:
        self._others: dict[int, int] = {}
        self._looked = float("-inf")

    async def of(self, session: int) -> int:
        """Bytes; 0 where that cannot be known: the process is gone, or the system is not Linux.

        Args:
            session: process id of the session's first process.
        """
        if sys.platform != "linux":
            return 0
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            self._others = await in_thread(_by_session)
        return _private(session) + self._others.get(session, 0)


def _by_session() -> dict[int, int]:
    """Bytes of each session without its first process. Runs in a thread."""
    found: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (session := _session(entry)) not in (0, int(entry)):
            found[session] = found.get(session, 0) + _private(int(entry))
    return found


def _session(pid: str) -> int:
    # After the name, which is in parentheses and may contain anything: state, parent, group, session.
    stat = _read(f"/proc/{pid}/stat")
    return int(stat.rpartition(b")")[2].split(None, 4)[3]) if stat else 0


def _private(pid: int) -> int:
    # size, resident, and of these backed by files, in pages: proc(5)
    statm = _read(f"/proc/{pid}/statm").split(None, 3)
    return (int(statm[1]) - int(statm[2])) * PAGE if statm else 0


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(fd, 512)
    except OSError:
        return b""
    finally:
        os.close(fd)
