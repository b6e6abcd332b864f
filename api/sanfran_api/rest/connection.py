"""One connection of a client of REST: uvicorn's, with limits for what arrives before anybody knows who sends it.

uvicorn reads a head of any length, for any time. With nobody admitted yet, that would be memory and
sockets for whoever can reach the port.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from sanfran_api.rest.guard import error_detail

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's head, or of what follows a body in pieces; looked at after each read of a quarter of a
megabyte at most. Credentials have 16 KiB of it."""
HEAD_SECONDS = 10.0
"""For a head, from when nothing else is under way on its connection; it may be twice as long."""
LINGER_SECONDS = 1.0
"""What still comes from who was refused is passed over for so long: closed at once, the system would
throw the answer away with it."""


class Connection(HttpToolsProtocol):
    """Closes with 431 or 408 on whoever sends a head that is too long or too slow."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._pending = 0
        """Bytes since the parser last gave away what it had: a whole head, or a piece of a body."""
        self._idle_since = 0.0
        self._look: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._look = self.loop.call_later(HEAD_SECONDS, self._look_again)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Counts what the parser keeps of it."""
        if self._refused:
            return
        self._pending += len(data)
        super().data_received(data)
        if self._pending > MAX_HEAD_BYTES and not self._refused:
            self._refuse(431, "too_large", f"a head of more than {MAX_HEAD_BYTES} bytes")

    def on_headers_complete(self) -> None:
        """A head is there."""
        self._pending = 0
        self._idle_since = self.loop.time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body is there."""
        self._pending = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is there."""
        self._pending = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is sent."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """The answer to what is no HTTP, in the form of all errors."""
        self._refuse(400, "bad_request", msg)

    @property
    def _serves(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look_again(self) -> None:
        late = self.loop.time() - self._idle_since >= HEAD_SECONDS
        if not self._serves and late:
            if self._pending:
                self._refuse(408, "request_timeout", f"no whole head in {HEAD_SECONDS:g} s")
            else:
                self.transport.close()  # nothing was asked
            return
        self._look = self.loop.call_later(HEAD_SECONDS, self._look_again)

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answers, unless another answer has begun, and closes."""
        self._refused = True
        begun = self._serves and self.cycle.response_started
        if begun or self.transport.is_closing():
            self.transport.close()
            return
        error = error_detail(code, message, secrets.token_hex(16))
        body = json.dumps({"error": error}).encode()
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/json\r\nconnection: close\r\n"
            + b"content-length: %d\r\n\r\n" % len(body)
            + body
        )
        self.transport.write_eof()
        self._look = self.loop.call_later(LINGER_SECONDS, self.transport.close)
