"""Whose orders count, where the one who gives them may be replaced: those of the newest term.

A former owner that stood still, and does not know yet that it was replaced, is refused by what it
orders, whatever it believes. A term is known from the new owner's first call on. This is the fencing token of
M. Kleppmann, "How to do distributed locking" (2016).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grpclib import GRPCError, Status

TERM = "x-sanfran-term"


class TermFence:
    """Remembers the highest term that called."""

    def __init__(self) -> None:
        self._highest = 0

    def admit(self, metadata: Mapping[str, Any]) -> None:
        """Lets a call pass, or not.

        Args:
            metadata: of the call. Without a term it counts as 0, which passes until somebody gave one.

        Raises:
            GRPCError: PERMISSION_DENIED; somebody with a newer term has called.
        """
        given = str(metadata.get(TERM, "0"))
        term = int(given) if given.isascii() and given.isdigit() else 0
        if term < self._highest:
            raise GRPCError(
                Status.PERMISSION_DENIED, f"term {term} is over, {self._highest} is the newest"
            )
        self._highest = term
