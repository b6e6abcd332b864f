"""A request's body on its way to a pod.

A request may turn out to need another pod: what has come of its body is kept for that, up to
`replay_bytes`. A longer body is announced with `Expect: 100-continue`, and its rest waits in the
client's socket until the pod has said that it took the request. A short one, of a known length, is
gathered before a pod is looked for, so that a slow sender takes no place at one.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from sanfran_router.wheel import Timed

if TYPE_CHECKING:
    from sanfran_router.exchange import Exchange
    from sanfran_router.upstream import UpstreamConnection

FENCE_WAIT = 1.0
"""Seconds until a body is sent on without `100 Continue`; RFC 9110, section 10.1.1, wants a limit."""
EXPECT_LINE: Final = b"Expect: 100-continue\r\n"


class Upload(Timed):
    """Made by `Exchange` for a request with a body.

    Args:
        limit: bytes that are kept.
    """

    __slots__ = ("_exchange", "_kept", "_limit", "_taken", "_waits")

    def __init__(self, exchange: Exchange, limit: int) -> None:
        super().__init__()
        self._exchange = exchange
        self._limit = limit
        # One buffer: the pieces of a sender of two bytes at a time would take thirty times as much.
        self._kept: bytearray | None = bytearray()
        self._taken = False
        self._waits = False

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return len(self._kept) if self._kept is not None else 0

    @property
    def gathers(self) -> bool:
        """It is short, and not all there: no pod is needed yet."""
        request = self._exchange.request
        short = 0 < request.length <= self._limit
        return short and not request.expects_continue and not self._exchange.body_done

    @property
    def replayable(self) -> bool:
        """It can be sent to another pod."""
        return self._kept is not None

    def add(self, piece: bytes) -> None:
        """Takes the next part, framed for the pod; sends it when there is one."""
        exchange = self._exchange
        upstream = exchange.upstream
        if upstream is not None:
            upstream.write(piece)
        kept = self._kept
        if kept is None:
            return
        kept += piece
        if len(kept) > self._limit:
            if upstream is not None and self._taken:
                self._forget()
            elif not exchange.body_done:
                exchange.client.hold_body(True)
                if upstream is not None:
                    self._limit_wait()

    def queued(self) -> None:
        """No more is wanted of it until there is a pod."""
        if not self._exchange.body_done:
            self._exchange.client.hold_body(True)

    def send(self, upstream: UpstreamConnection, head: bytes, head_end: bytes) -> None:
        """Sends the head, and all that is there."""
        exchange = self._exchange
        kept = self._kept
        assert kept is not None
        self._taken = False
        done = exchange.body_done
        expect = b"" if done or exchange.request.expects_continue else EXPECT_LINE
        upstream.write(b"".join((head, expect, head_end, kept)))
        if not done:
            full = len(kept) > self._limit
            exchange.client.hold_body(full)
            if full:
                self._limit_wait()

    def on_taken(self) -> None:
        """The pod runs the request: the body need not be kept beyond the bound any more."""
        self._taken = True
        if self.size > self._limit:
            self._forget()
        self._exchange.client.hold_body(False)

    def on_answer(self) -> None:
        """The answer has begun: whoever waits for `100 Continue` waits in vain."""
        if self._waits:
            self.on_taken()

    def on_deadline(self) -> None:
        self._waits = False
        self.on_taken()

    def stop_waiting(self) -> None:
        """The request ends, or goes to another pod."""
        if self._waits:
            self._waits = False
            self._exchange.plane.wheel.forget(self)

    def _limit_wait(self) -> None:
        if not self._waits:
            self._waits = True
            self._exchange.plane.wheel.set(self, monotonic() + FENCE_WAIT)

    def _forget(self) -> None:
        self._kept = None
        self.stop_waiting()
