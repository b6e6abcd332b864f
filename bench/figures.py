"""How figures are taken, summed up and printed."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import psutil

BUCKETS = (2, 4, 6, 8, 10, 15, 20, 30, 50, 100)
"""Upper bounds in ms: those in which the project has always shown its cold starts."""


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of values in order."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def histogram(milliseconds: Sequence[float]) -> str:
    """One line per bucket: range, share, bar."""
    lines = []
    bounds = [0, *BUCKETS, None]
    for low, high in itertools.pairwise(bounds):
        assert low is not None
        inside = sum(1 for one in milliseconds if low <= one and (high is None or one < high))
        share = inside / len(milliseconds)
        name = f"{low}-{high} ms" if high is not None else f"over {low} ms"
        lines.append(f"  {name:>11} {share:6.1%} {'#' * round(share * 50)}")
    return "\n".join(lines)


def family(pid: int) -> list[psutil.Process]:
    """A process and its children, those of children included."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """User and system time that a process and its children have used."""
    times = [one.cpu_times() for one in family(pid)]
    return sum(one.user + one.system for one in times)


class Memory(NamedTuple):
    """Megabytes. `pss` counts a page that n processes share as 1/n in each, so that it may be
    added up; it is None where the system does not tell, or only tells root."""

    rss: float
    pss: float | None

    def __str__(self) -> str:
        return f"RSS {self.rss:.1f} MB" + (f", PSS {self.pss:.1f} MB" if self.pss else "")


def memory(pid: int) -> list[Memory]:
    """Of a process and of each of its children."""
    found = []
    for one in family(pid):
        try:
            full = one.memory_full_info()
        except psutil.AccessDenied:
            found.append(Memory(one.memory_info().rss / 1e6, None))
        else:
            pss = getattr(full, "pss", None)
            found.append(Memory(full.rss / 1e6, pss / 1e6 if pss is not None else None))
    return found


def total(memories: Sequence[Memory]) -> Memory:
    """The sum; no PSS where one is missing."""
    known = [one.pss for one in memories if one.pss is not None]
    return Memory(
        sum(one.rss for one in memories), sum(known) if len(known) == len(memories) else None
    )
