"""A connection to a pod: reads answers, and goes back to its endpoint's pool between them."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import sys
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from sanfran_router.framing import BadFraming, ChunkedDecoder
from sanfran_router.function import Endpoint, Function
from sanfran_router.response import CHUNKED, UNTIL_CLOSE, BadAnswer, parse_response
from sanfran_router.usual import USUAL_ANSWER
from sanfran_router.wheel import Timed

if TYPE_CHECKING:
    from sanfran_router.exchange import Exchange
    from sanfran_router.plane import DataPlane

MAX_ANSWER_HEAD = 65536
"""Bytes; four times what Node accepts itself."""

LINGER = 2.0
"""Seconds for the last bytes of a tunnel to reach a pod."""

_BYTES_ACKED: Final = 120
"""Where struct tcp_info has `tcpi_bytes_acked`, since Linux 4.1."""

BEGUN: Final = b"HTTP/1.1 102 Processing\r\nX-Sanfran-Begun: 1\r\n\r\n"
"""What a pod that was still loading says before the handler runs."""

BEGIN: Final = -1
HEAD: Final = 0
LENGTH: Final = 1
CHUNKS: Final = 2
TO_CLOSE: Final = 3
TUNNEL: Final = 4


class UpstreamConnection(Timed, asyncio.Protocol):
    """Made by `DataPlane.connect`. While it serves a request, `exchange` is set."""

    __slots__ = (
        "_before",
        "_buffer",
        "_decoder",
        "_keep",
        "_left",
        "_paused",
        "_phase",
        "endpoint",
        "exchange",
        "function",
        "heard",
        "plane",
        "reused",
        "sent",
        "transport",
    )

    def __init__(self, plane: DataPlane, function: Function, endpoint: Endpoint) -> None:
        super().__init__()
        # The connection
        self.plane = plane
        self.function = function
        self.endpoint = endpoint
        self.transport: asyncio.Transport
        self.reused = False
        self.sent = 0
        """Bytes of all requests."""
        self._before = 0
        self._paused = False

        # The request that it serves
        self.exchange: Exchange | None = None
        self.heard = False
        """A byte has come back."""
        self._phase = HEAD
        self._buffer = b""
        self._left = 0
        self._decoder: ChunkedDecoder | None = None
        self._keep = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.plane.wheel.forget(self)
        exchange = self.exchange
        if exchange is None:
            if self in self.endpoint.idle:
                self.endpoint.idle.remove(self)
            return
        self.exchange = None
        if self._phase >= TO_CLOSE and exc is None:
            exchange.finish()
        else:
            waits = self._phase == BEGIN and not self._buffer
            exchange.on_lost(self, unseen=waits or (exc is None and self._unseen()))

    def _unseen(self) -> bool:
        """Surely nothing of the request has reached the pod, which had closed the connection before:
        its kernel acknowledged none of it with its FIN. Not to be asked after a reset, whose
        acknowledgement Linux does not take in. Where the kernel does not tell: False."""
        if sys.platform != "linux":
            return False
        raw = self.transport.get_extra_info("socket")
        try:
            info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
            acked: int = struct.unpack_from("Q", info, _BYTES_ACKED)[0]
        except (OSError, struct.error):
            return False
        return acked <= self._before + 1  # one for the SYN

    def await_begin(self) -> None:
        """The next request goes to a pod that still loads, which says when it begins to run it: what is lost
        before has not run."""
        self._phase = BEGIN

    def write(self, data: bytes) -> None:
        """Sends a part of the request."""
        self.sent += len(data)
        self.transport.write(data)

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.client.pause_upload(True)

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.client.pause_upload(False)

    def pause(self) -> None:
        """The client reads too slowly."""
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """The client has caught up."""
        if self._paused:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def on_deadline(self) -> None:
        """Idle for long enough."""
        if self.exchange is None:
            self.transport.abort()

    def close(self) -> None:
        """Closes at once. The request that it serves, if any, is not told."""
        self.exchange = None
        if self._phase == TUNNEL:
            self.transport.close()  # with what the client said last, if the pod reads it
            self.plane.wheel.set(self, monotonic() + LINGER)
        else:
            self.transport.abort()

    def rest(self, now: float) -> None:
        """Waits in its endpoint's pool for the next request."""
        endpoint = self.endpoint
        if endpoint.gone or self.plane.stopping:
            self.close()
            return
        self.reused = True
        self._before = self.sent
        if self._paused:
            self.resume()
        endpoint.idle.append(self)
        self.deadline = deadline = now + self.plane.config.pod_idle_timeout
        if deadline < self.looked_at:
            self.plane.wheel.set(self, deadline)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.close()
            self._on_unasked(data)
            return
        phase = self._phase
        if phase == HEAD:
            self.heard = True
            if not self._buffer:
                usual = USUAL_ANSWER.match(data)
                if usual is not None and self._on_usual(exchange, data, usual):
                    return
            try:
                self._on_head(exchange, self._buffer + data if self._buffer else data)
            except (BadAnswer, BadFraming):
                self.close()
                exchange.on_bad_answer()
        elif phase == LENGTH:
            left = self._left
            if len(data) < left:
                self._left = left - len(data)
                exchange.relay(data)
                return
            if len(data) > left:
                self._on_unasked(data[left:])
                data = data[:left]
            exchange.relay(data)
            self._complete(exchange)
        elif phase == CHUNKS:
            try:
                self._on_chunks(exchange, data)
            except BadFraming:
                self.close()
                exchange.on_bad_answer()
        elif phase == BEGIN:
            self._on_begin(exchange, data)
        else:
            if phase == TUNNEL:
                exchange.client.tunnel_used()
            exchange.relay(data)

    def _on_unasked(self, data: bytes) -> None:
        """More than was asked for. A pod that drains says so, whoever else has told of that."""
        self._keep = False
        try:
            said = parse_response(data, to_head=False, dechunk=False)
        except (BadAnswer, BadFraming):
            return
        if said.retry:
            self.function.part(self.endpoint)

    def _on_begin(self, exchange: Exchange, data: bytes) -> None:
        data = self._buffer + data
        if len(data) < len(BEGUN) and BEGUN.startswith(data):
            self._buffer = data
            return
        self._buffer = b""
        self._phase = HEAD
        if data.startswith(BEGUN):
            data = data[len(BEGUN) :]
            exchange.on_begun()
        if data:
            self.data_received(data)

    def _on_usual(self, exchange: Exchange, data: bytes, match: re.Match[bytes]) -> bool:
        """Handles a usual answer that came as a whole; False: it is not whole."""
        status, before, connection, after = match.groups()
        length = before or after
        if length is None or (before and after) or len(data) - match.end() != int(length):
            return False
        if exchange.request.method == b"HEAD" or match.end() > MAX_ANSWER_HEAD:
            return False
        if connection is not None:
            start, end = match.span(3)
            data = data[:start] + data[end:]
        self.exchange = None
        self.heard = False
        now = monotonic()
        if exchange.body_done:
            self.rest(now)
        else:
            self.transport.abort()
        exchange.on_whole_answer(int(status), data, now)
        return True

    def _on_head(self, exchange: Exchange, data: bytes) -> None:
        request = exchange.request
        while True:
            end = data.find(b"\r\n\r\n", 0, MAX_ANSWER_HEAD) + 4
            if end < 4:
                if len(data) >= MAX_ANSWER_HEAD:
                    raise BadAnswer("head too long")
                self._buffer = data
                return
            answer = parse_response(
                data[:end] if end < len(data) else data,
                to_head=request.is_head,
                dechunk=request.http10,
            )
            data = data[end:]
            if answer.status >= 200 or answer.status == 101:
                break
            exchange.on_interim(answer)
        self._buffer = b""
        if answer.retry:
            exchange.on_fenced(self)
            return
        if answer.status == 101:
            if not request.upgrade or not answer.switch:
                raise BadAnswer("nobody asked to switch")
            self._phase = TUNNEL
            exchange.on_switch(answer, data)
            return
        self._keep = answer.keep_alive
        length = answer.length
        if length == CHUNKED:
            self._phase = CHUNKS
            self._decoder = ChunkedDecoder()
            exchange.on_answer(answer)
            if data:
                self._on_chunks(exchange, data)
        elif length == UNTIL_CLOSE:
            self._phase = TO_CLOSE
            exchange.on_answer(answer, data)
        else:
            if len(data) > length:
                self._on_unasked(data[length:])
                data = data[:length]
            exchange.on_answer(answer, data)
            if len(data) == length:
                self._complete(exchange)
            else:
                self._phase = LENGTH
                self._left = length - len(data)

    def _on_chunks(self, exchange: Exchange, data: bytes) -> None:
        decoder = self._decoder
        assert decoder is not None
        pieces: list[bytes] = []
        before = decoder.pending
        used = decoder.feed(data, pieces)
        if used < len(data):
            self._on_unasked(data[used:])
            data = data[:used]
        pending = decoder.pending
        if before or pending:  # a line is passed on when it is known to be one
            data = before + data
            data = data[: len(data) - len(pending)]
        if exchange.request.http10:
            data = b"".join(pieces)
        if data:
            exchange.relay(data)
        if decoder.done:
            self._complete(exchange)

    def _complete(self, exchange: Exchange) -> None:
        if self.exchange is not exchange:
            return  # the client left while the last bytes were written
        self.exchange = None
        if self._keep and exchange.body_done:
            self._phase = HEAD
            self._decoder = None
            self.heard = False
            self.rest(monotonic())
        else:
            self.transport.abort()
        exchange.finish()
