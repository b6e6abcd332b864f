"""A client's connection: heads and bodies in, answers out, one request after the other.

Bytes that come while a request is at work stay in the buffer, and beyond a bound in the socket, so
pipelined requests are answered in order. A client that ends its side of the connection is gone.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from time import monotonic
from typing import TYPE_CHECKING, cast

from sanfran_router import errors
from sanfran_router.errors import Problem, Refusal
from sanfran_router.exchange import CLOSE, KEEP_ALIVE, Exchange
from sanfran_router.framing import (
    BadFraming,
    ChunkedBody,
    LengthBody,
    TooLarge,
    check_lines,
    head_end,
)
from sanfran_router.intake import AHEAD, HELD, PUSHED_BACK, UNREAD, Intake
from sanfran_router.landing import LANDING, Landing
from sanfran_router.request import (
    CHUNKED,
    TRAILERS_DROPPED,
    HeadParser,
    Request,
    new_request_id,
)
from sanfran_router.wheel import Timed

if TYPE_CHECKING:
    from sanfran_router.plane import DataPlane

PIPELINE_BYTES = 65536
"""Kept of what a client sends ahead of its turn."""
REFUSALS = 256
"""Connections over the limit that are told so at the same time; more are reset unheard."""
LINGER = 2.0
"""Seconds that a closing connection still reads, so that a client in the middle of its body gets
to see the answer instead of a reset (RFC 9112, section 9.6)."""
_EMPTY_LINES = re.compile(rb"(?:\r\n)++")
"""Ignored before a request (RFC 9112, section 2.2)."""
_RESET = struct.pack("ii", 1, 0)


class ClientConnection(Timed, asyncio.Protocol):
    """Made by the listener for each connection."""

    __slots__ = (
        "_body",
        "_buffer",
        "_closing",
        "_exchange",
        "_head_begun",
        "_intake",
        "_parser",
        "_processing",
        "_tunnel",
        "peer",
        "plane",
        "transport",
        "write_paused",
    )

    def __init__(self, plane: DataPlane) -> None:
        super().__init__()
        # The connection
        self.plane = plane
        self.transport: asyncio.Transport
        self.peer = ""
        self._parser: HeadParser
        self._closing = False
        self.write_paused = False
        self._intake: Intake

        # The request
        self._exchange: Exchange | None = None
        self._body: LengthBody | ChunkedBody | None = None
        self._buffer = b""
        self._head_begun = False
        self._tunnel = False
        self._processing = False

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plane = self.plane
        self.transport = cast("asyncio.Transport", transport)
        self._intake = Intake(self, self.transport, plane.hangups)
        if plane.stopping or len(plane.clients) >= plane.config.max_connections:
            self._turn_away()
            return
        plane.clients.add(self)
        peername = transport.get_extra_info("peername")
        sockname = transport.get_extra_info("sockname")
        self.peer = peername[0] if peername else "unknown"
        named = sockname and ":" not in sockname[0]
        host = f"{sockname[0]}:{sockname[1]}" if named else "localhost"
        self._parser = HeadParser(
            self.peer.encode(),
            host.encode(),
            trust_forwarded=plane.config.trust_forwarded,
            max_head=plane.config.max_head_bytes,
            max_headers=plane.config.max_headers,
            max_body=plane.config.max_body_bytes,
        )
        plane.wheel.set(self, monotonic() + plane.config.head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        plane = self.plane
        plane.wheel.forget(self)
        self._intake.unwatch()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.on_client_gone()
        plane.clients.discard(self)
        plane.refusing.discard(self)
        if not plane.clients:
            plane.all_closed.set()

    def eof_received(self) -> bool:
        if self._exchange is not None:
            self.transport.abort()  # gone, whatever of the answer it has not read yet
        return False

    def on_hangup(self) -> None:
        """Gone, as noticed while reading is paused."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            if self._buffer or self._closing or self.write_paused:
                if not self._closing:
                    self._process(data)
                return
            request = self._parser.parse_usual(data)
            if request is not None:
                self._begin(request, len(data))
            else:
                self._process(data)
        elif self._body is not None:
            self._read_body(exchange, self._body, data)
        elif self._tunnel:
            self.tunnel_used()
            exchange.tunnel(data)
        else:
            self._buffer += data
            if len(self._buffer) > PIPELINE_BYTES:
                self._intake.pause(AHEAD)

    def pause_writing(self) -> None:
        self.write_paused = True
        if self._exchange is not None:
            self._exchange.pause_pod()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._exchange is not None:
            self._exchange.resume_pod()
        elif self._intake.reasons & UNREAD:
            self._intake.resume(UNREAD)
            self._process(b"")

    def on_deadline(self) -> None:
        exchange = self._exchange
        if self._closing:
            self.transport.abort()
        elif exchange is not None:
            if self._tunnel:
                self.transport.abort()
            else:
                exchange.on_timeout()
        elif self._buffer:
            self._refuse(errors.HEAD_TIMEOUT)
        else:
            self._close()

    # Called by the exchange.

    def hold_body(self, hold: bool) -> None:
        """Nothing more of the body is wanted before the pod has taken the request."""
        self._intake.pause(HELD) if hold else self._intake.resume(HELD)

    def pause_upload(self, pause: bool) -> None:
        """The pod reads too slowly, or has caught up."""
        self._intake.pause(PUSHED_BACK) if pause else self._intake.resume(PUSHED_BACK)

    def tunnel(self) -> None:
        """From here on, bytes."""
        self._tunnel = True
        self.tunnel_used()
        ahead, self._buffer = self._buffer, b""
        if ahead and self._exchange is not None:
            self._exchange.tunnel(ahead)
        self._intake.resume(AHEAD)

    def tunnel_used(self) -> None:
        """A byte has come from either side."""
        self.plane.wheel.set(self, monotonic() + self.plane.config.tunnel_idle_timeout)

    def next_request(self, now: float) -> None:
        """Ready for the next request, which may be in the buffer already."""
        self._exchange = None
        self._head_begun = False
        if self._intake.reasons:
            self._intake.resume(HELD | PUSHED_BACK | AHEAD)
        self.deadline = deadline = now + self.plane.config.idle_timeout
        if deadline < self.looked_at:
            self.plane.wheel.set(self, deadline)
        if self._buffer:
            self._process(b"")

    def on_finished(self, exchange: Exchange) -> None:
        """The answer is complete."""
        if exchange is not self._exchange:
            return
        if exchange.keep and self._body is None and not self.plane.stopping:
            self.next_request(monotonic())
        else:
            self._close(linger=self._body is not None)

    def answer(self, problem: Problem | Landing, request: Request, *, complete: bool) -> None:
        """The router's own answer to the request at work.

        Args:
            complete: all of the request was read, so that another may follow.
        """
        keep = complete and request.keep_alive and not problem.close and not self.plane.closing
        line = (KEEP_ALIVE if request.http10 else b"") if keep else CLOSE
        self.transport.write(problem.render(request.request_id, line, head_only=request.is_head))
        if keep:
            self.next_request(monotonic())
        else:
            self._close(linger=True)

    def break_off(self) -> None:
        """Ends the connection so that the client cannot take the answer for complete."""
        self._closing = True
        self._exchange = None
        raw = self.transport.get_extra_info("socket")
        if raw is not None and not self.transport.is_closing():
            # A body that ends with its connection is only broken by a reset.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    # Called at a stop.

    @property
    def busy(self) -> bool:
        """A request is at work."""
        return self._exchange is not None

    def drain(self) -> None:
        """No further request: closes now, or after the one at work."""
        if self._exchange is None and not self._closing:
            self._close()

    def abort(self) -> None:
        """Cuts off what is at work."""
        if self._exchange is not None:
            self._exchange.fail(errors.STOPPING)
            if not self.transport.is_closing():
                self.transport.close()
        else:
            self.transport.abort()

    # Reading.

    def _process(self, data: bytes) -> None:
        """Reads heads, as long as their requests are answered at once."""
        searched = len(self._buffer) if data else 0  # without news, the buffer is new to us
        self._buffer = self._buffer + data if searched else data or self._buffer
        if self._processing:
            return
        self._processing = True
        try:
            while self._buffer and self._exchange is None and not self._closing:
                if self.write_paused:
                    self._intake.pause(UNREAD)
                    return
                if not self._read_head(searched):
                    return
                searched = 0
        finally:
            self._processing = False

    def _read_head(self, searched: int) -> bool:
        """Begins the next request. False: its head is not complete, or was refused."""
        buffer = self._buffer
        if buffer[0] == 13 and (empty := _EMPTY_LINES.match(buffer)):
            self._buffer = buffer = buffer[empty.end() :]
            searched = 0
            if not buffer:
                return False
        end = head_end(buffer, searched)
        limit = self.plane.config.max_head_bytes
        try:
            if end < 0 and len(buffer) > limit:
                raise Refusal(errors.HEAD_TOO_LARGE)
            if end < 0:
                if buffer != b"\r":
                    check_lines(buffer)
                if not self._head_begun:
                    self._head_begun = True
                    self.plane.wheel.set(self, monotonic() + self.plane.config.head_timeout)
                return False
            head = buffer[:end]
            request = self._parser.parse_usual(head) or self._parser.parse(head)
        except BadFraming:
            self._refuse(errors.BAD_REQUEST)
            return False
        except Refusal as refusal:
            self._refuse(refusal.problem)
            return False
        self._buffer = buffer[end:]
        self._begin(request, end)
        return True

    def _begin(self, request: Request, size: int) -> None:
        plane = self.plane
        if not request.name:
            self._answer_unrouted(request)
            return
        function = plane.table.functions.get(request.name)
        if function is None:
            function = plane.table.function(request.name)
        function.traffic.received += size
        self._exchange = exchange = Exchange(plane, self, request, function)
        length = request.length
        if length:
            if length == CHUNKED:
                body: LengthBody | ChunkedBody = ChunkedBody(
                    plane.config.max_body_bytes, TRAILERS_DROPPED
                )
            else:
                body = LengthBody(length)
            self._body = exchange.body = body
            ahead, self._buffer = self._buffer, b""
            if ahead:
                self._read_body(exchange, body, ahead)
                if exchange.finished:
                    return
        exchange.start()

    def _read_body(self, exchange: Exchange, body: LengthBody | ChunkedBody, data: bytes) -> None:
        try:
            piece, rest = body.feed(data)
        except BadFraming:
            exchange.fail(errors.BAD_REQUEST)
            return
        except TooLarge:
            exchange.fail(errors.TOO_LARGE)
            return
        exchange.function.traffic.received += len(data) - len(rest)
        if body.done:
            self._body = None
            self._buffer = rest
        if piece:
            exchange.on_body(piece, body.done)

    def _answer_unrouted(self, request: Request) -> None:
        """What is no function's: the root says what this is, all else is not there."""
        traffic = self.plane.unrouted
        traffic.requests += 1
        root = request.target.partition(b"?")[0] == b"/" and request.method in (b"GET", b"HEAD")
        answer = LANDING if root else errors.NOT_FOUND
        traffic.by_class[answer.status // 100] += 1
        self.answer(answer, request, complete=not request.length)

    def _turn_away(self) -> None:
        """Answers a connection that must not be, without hearing it."""
        plane = self.plane
        plane.refused += 1
        if len(plane.refusing) >= REFUSALS:
            self._closing = True
            self.transport.abort()
            return
        plane.refusing.add(self)
        problem = errors.STOPPING if plane.stopping else errors.TOO_MANY_CONNECTIONS
        self.transport.write(problem.render(new_request_id(), CLOSE))
        self._close(linger=True)

    def _refuse(self, problem: Problem) -> None:
        """Answers a head that cannot be read, and closes."""
        self.plane.unrouted.requests += 1
        self.plane.unrouted.by_class[4] += 1
        self.transport.write(problem.render(new_request_id(), CLOSE))
        self._close(linger=True)

    def _close(self, *, linger: bool = False) -> None:
        """Closes when all is written.

        Args:
            linger: the client may still be sending.
        """
        self._closing = True
        self._exchange = self._body = None
        self._buffer = b""
        reads = not self.transport.get_write_buffer_size()
        wait = LINGER if linger and reads else self.plane.config.idle_timeout
        self.plane.wheel.set(self, monotonic() + wait)
        if linger and not self.transport.is_closing():
            self._intake.resume(self._intake.reasons)
            self.transport.write_eof()
        else:
            self.transport.close()
