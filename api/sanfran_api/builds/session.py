"""Processes of a session: the one that began it, and what that started. Those that left it are not counted."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def kill_session(leader: int) -> None:
    """Kills the group of a session's leader, and whatever else is in its session (Linux)."""
    with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        os.killpg(leader, signal.SIGKILL)
    for pid in _session(leader):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def memory_of(session: int) -> int:
    """Bytes that no file backs, of all processes of a session; 0 where that cannot be known."""
    total = 0
    for pid in _session(session):
        with suppress(OSError, IndexError):
            # size, resident, and of these backed by files, in pages: proc(5)
            pages = Path(f"/proc/{pid}/statm").read_text().split(None, 3)
            total += (int(pages[1]) - int(pages[2])) * PAGE
    return total


def _session(leader: int) -> list[int]:
    if sys.platform != "linux":
        return []
    found: list[int] = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError, IndexError):
                # After the name, in parentheses, which may contain anything: state, parent, group,
                # session.
                stat = Path(f"/proc/{entry}/stat").read_bytes().rpartition(b")")[2].split(None, 4)
                if int(stat[3]) == leader:
                    found.append(int(entry))
    return found
