"""How figures are summed up and printed."""

import itertools
from collections.abc import Sequence

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
