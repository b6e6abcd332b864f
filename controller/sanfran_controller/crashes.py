"""How often a function's pods may crash before the next one has to wait. Pure: the caller tells the time.

Code that loads and then ends its process at each call would take a pod from the pool for every
request, and other functions would wait behind it. A few crashes cost nothing; after that one
pod a second is enough to see whether it still crashes, and to serve what does not.
"""

from __future__ import annotations

from sanfran_proto.sanfran import v1 as pb

FREE = 5
"""Crashes without a pause."""
EVERY = 1.0
"""Seconds after which one more is forgiven."""
MOST = FREE + 5
"""Counted at most, so that no pause is longer than a request may wait."""


class Crashes:
    """A leaky bucket, emptied by a new version."""

    __slots__ = ("_at", "_level", "_version")

    def __init__(self) -> None:
        self._version: pb.FunctionVersion | None = None
        self._level = 0.0
        self._at = 0.0

    def count(self, version: pb.FunctionVersion, now: float) -> None:
        """A pod of that version crashed."""
        self._level = min(self._left(version, now) + 1, MOST)
        self._version, self._at = version, now

    def pause(self, version: pb.FunctionVersion, now: float) -> float:
        """Seconds until a further pod may be given to that version."""
        return max(0.0, self._left(version, now) - FREE) * EVERY

    def _left(self, version: pb.FunctionVersion, now: float) -> float:
        if version is not self._version:
            return 0.0
        return max(0.0, self._level - (now - self._at) / EVERY)
