"""For every test of every part: it leaves no task and no process behind."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import structlog

SETTLE = 10
"""Turns of the loop that a task cancelled at the very end may take to be gone."""

TASKS = Path("/proc/self/task")
CHILDREN = TASKS / str(os.getpid()) / "children"

# Else, where rich is installed, a logged exception brings all locals of its stack: seconds, each time.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    yield
    left: list[asyncio.Task[object]] = []
    for _ in range(SETTLE):
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if not left:
            return
        await asyncio.sleep(0)
    pytest.fail(f"tasks left behind: {[repr(task) for task in left]}")


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    before = children()
    yield
    if not children() - before:
        return
    left = [child for child in psutil.Process().children() if child.pid not in before]
    _, left = psutil.wait_procs(left, timeout=1)
    if left:
        pytest.fail(f"processes left behind: {[' '.join(child.cmdline()) for child in left]}")


def children() -> set[int]:
    """Process ids. Linux knows them; psutil looks at all processes of the machine, for 10 ms, twice a test."""
    found: set[int] = set()
    if not CHILDREN.exists():
        return {child.pid for child in psutil.Process().children()}
    for task in TASKS.iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            found.update(int(pid) for pid in (task / "children").read_text().split())
    return found
