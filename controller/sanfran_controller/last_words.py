"""The last lines of activations that are over, kept for whoever asks what happened. Pure: no I/O, no clock.

A pod's log goes with its pod, and the line that matters most is often the last one.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from sanfran_proto.sanfran import v1 as pb

MOST_LINES = 500
"""Of one function."""
MOST_CHARACTERS = 32 << 20
"""Of all functions; those that wrote longest ago go first."""


class LastWords:
    """Bounded in lines for each function, and in characters for all."""

    def __init__(self, *, lines: int = MOST_LINES, characters: int = MOST_CHARACTERS) -> None:
        self._most_lines = lines
        self._most_characters = characters
        self._kept: OrderedDict[str, deque[pb.LogLine]] = OrderedDict()
        self._characters = 0

    def keep(self, function: str, lines: Iterable[pb.LogLine]) -> None:
        """Takes what an activation left."""
        kept = self._kept.setdefault(function, deque())
        self._kept.move_to_end(function)
        for line in lines:
            kept.append(line)
            self._characters += len(line.text)
            if len(kept) > self._most_lines:
                self._characters -= len(kept.popleft().text)
        while self._characters > self._most_characters:
            self.forget(next(iter(self._kept)))

    def of(self, function: str) -> list[pb.LogLine]:
        """What is kept, in the order in which activations ended."""
        return list(self._kept.get(function, ()))

    def forget(self, function: str) -> None:
        """The function is gone."""
        for line in self._kept.pop(function, ()):
            self._characters -= len(line.text)
