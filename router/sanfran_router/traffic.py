"""Counters of one function: plain integers, counted on the hot path and rendered when scraped."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

LATENCY_BOUNDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    60.0,
)
"""Seconds; upper bounds of the histogram's buckets."""
COLD_BOUNDS = (0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Seconds; the first ones are those in which cold starts are published."""


class Traffic:
    """What happened to one function's requests.

    A worker's since it told the supervisor last; the supervisor's since the router started.
    """

    __slots__ = (
        "activation_failures",
        "activations",
        "by_class",
        "cold_buckets",
        "cold_seconds",
        "latency_buckets",
        "latency_seconds",
        "peak",
        "received",
        "reported",
        "requests",
        "retries",
        "sent",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.by_class = [0] * 10
        """Answers by status // 100; at 0 those whose client left before one began, from 6 on those
        whose handler made a status up."""
        self.latency_buckets = [0] * (len(LATENCY_BOUNDS) + 1)
        self.latency_seconds = 0.0
        self.activations = 0
        """Requests to a controller because no pod served the function: cold starts."""
        self.activation_failures = 0
        self.cold_buckets = [0] * (len(COLD_BOUNDS) + 1)
        self.cold_seconds = 0.0
        self.retries: dict[str, int] = {}
        """By cause."""
        self.received = 0
        """Bytes from clients: heads and bodies of requests, tunnels."""
        self.sent = 0
        """Bytes to clients: heads and bodies of answers, tunnels."""
        self.peak = 0
        """In flight plus queued, at most, since the last load report."""
        self.reported = 0
        """Of `requests`, those that load reports have told."""

    def began_cold(self, took: float) -> None:
        """Counts a cold start.

        Args:
            took: seconds from asking for a pod until there was one.
        """
        self.cold_buckets[bisect_left(COLD_BOUNDS, took)] += 1
        self.cold_seconds += took

    def retried(self, cause: str) -> None:
        """Counts a request that is sent again."""
        self.retries[cause] = self.retries.get(cause, 0) + 1

    @property
    def touched(self) -> bool:
        """Something was counted."""
        return bool(
            self.requests
            or self.sent
            or self.received
            or self.activations
            or self.activation_failures
            or self.retries
            or any(self.by_class)
        )

    def take(self) -> dict[str, Any]:
        """What was counted, as JSON has it and `add` wants it; counting begins anew.

        What load reports need stays: `peak`, and what `requests` is ahead of `reported`.
        """
        taken = {name: value for name in _TAKEN if (value := getattr(self, name))}
        self.reported -= self.requests
        self.requests = self.received = self.sent = 0
        self.activations = self.activation_failures = 0
        self.latency_seconds = self.cold_seconds = 0.0
        self.by_class = [0] * 10
        self.latency_buckets = [0] * (len(LATENCY_BOUNDS) + 1)
        self.cold_buckets = [0] * (len(COLD_BOUNDS) + 1)
        self.retries = {}
        return taken

    def add(self, taken: dict[str, Any]) -> None:
        """Adds what `take` of another one returned; of a newer version, what this one knows."""
        for name in _TAKEN & taken.keys():
            mine, value = getattr(self, name), taken[name]
            if isinstance(mine, list):
                if len(mine) == len(value):
                    setattr(self, name, [a + b for a, b in zip(mine, value, strict=True)])
            elif isinstance(mine, dict):
                for cause, count in value.items():
                    mine[cause] = mine.get(cause, 0) + count
            else:
                setattr(self, name, mine + value)


_TAKEN = frozenset(Traffic.__slots__) - {"peak", "reported"}
