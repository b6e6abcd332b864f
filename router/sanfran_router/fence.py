"""How long a body waits for its pod to take the request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sanfran_router.wheel import Timed

if TYPE_CHECKING:
    from sanfran_router.exchange import Exchange

FENCE_WAIT = 1.0
"""Seconds until a body is sent on without `100 Continue`; RFC 9110, section 10.1.1, wants a limit."""


class FenceWait(Timed):
    """Ends a body's wait for `100 Continue`."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self._exchange = exchange

    def on_deadline(self) -> None:
        self._exchange.on_taken()
