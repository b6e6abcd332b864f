"""Who gets the next generic pod. Decides only.

Functions take turns, each in the order in which its claims came, so that one that asks for fifty
pods delays another by one pod and not by fifty. Claims of functions that have no pod at all (cold)
come before those that want one more (growth), but for every fifth pod: where cold ones never end, those
that serve may grow all the same.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")

COLD_IN_A_ROW = 4
"""Turns of cold functions until a growing one has its own."""


class ClaimsFull(Exception):
    """As many claims wait as may."""


class ClaimQueue(Generic[T]):
    """Claims that wait for a pod.

    Args:
        most: claims at most; beyond that `add` raises `ClaimsFull`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # Ordered: in a plain dict, finding the first one passes all places that were first before.
        self._cold: OrderedDict[str, deque[T]] = OrderedDict()
        self._growth: OrderedDict[str, deque[T]] = OrderedDict()
        self._waiting = 0
        self._in_a_row = 0  # turns of cold ones while others waited

    @property
    def cold(self) -> int:
        """Functions without a pod that wait."""
        return len(self._cold)

    def __len__(self) -> int:
        return self._waiting

    def add(self, function: str, claim: T, *, growth: bool) -> None:
        """The claim waits from now on.

        Raises:
            ClaimsFull: there is no place.
        """
        if self._waiting >= self._most:
            raise ClaimsFull(f"{self._waiting} claims wait already")
        turns = self._growth if growth else self._cold
        turns.setdefault(function, deque()).append(claim)
        self._waiting += 1

    def discard(self, function: str, claim: T) -> None:
        """The claim waits no longer; nothing happens when it did not."""
        for turns in (self._cold, self._growth):
            claims = turns.get(function)
            if claims is not None and claim in claims:
                claims.remove(claim)
                self._waiting -= 1
                if not claims:
                    del turns[function]

    def take(self, *, growth: bool) -> T | None:
        """Removes and returns the claim whose turn it is, or None.

        Args:
            growth: whether a claim of a function that has pods may have one now.
        """
        due = self._in_a_row >= COLD_IN_A_ROW and bool(self._growth)
        turns = self._cold
        if due or (not turns and growth):
            turns = self._growth
        if not turns:
            return None
        cold = turns is self._cold and bool(self._growth)
        self._in_a_row = self._in_a_row + 1 if cold else 0
        function, claims = turns.popitem(last=False)
        claim = claims.popleft()
        if claims:
            turns[function] = claims  # to the end of the round
        self._waiting -= 1
        return claim

    def drop(self, function: str) -> list[T]:
        """Removes and returns every claim of a function."""
        claims = [*self._cold.pop(function, ()), *self._growth.pop(function, ())]
        self._waiting -= len(claims)
        return claims

    def drop_all(self) -> list[T]:
        """Removes and returns every claim."""
        names = [*self._cold, *self._growth]
        return [claim for name in names for claim in self.drop(name)]
