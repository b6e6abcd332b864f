"""A client's unary calls past grpclib's streams: one piece of bytes out, one future for what comes back.

A call stands among grpclib's streams of its connection, which tells it what comes. Without locks, queues
and tasks that are cancelled at deadlines it costs a third.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from grpclib import GRPCError, Status
from grpclib.client import Stream
from grpclib.encoding.base import GRPC_CONTENT_TYPE
from grpclib.exceptions import StreamTerminatedError
from grpclib.metadata import USER_AGENT, Deadline, encode_metadata, encode_timeout
from h2.errors import ErrorCodes

from sanfran_common.rpc.codec import CODEC
from sanfran_common.rpc.headers import Headers
from sanfran_common.rpc.messages import unwrap, wrap
from sanfran_common.rpc.protocol import Protocol, Unheard


class Ask:
    """One call.

    Args:
        protocol: its connection, which has room for all of it (`Protocol.has_room`).
    """

    # What grpclib's streams have, and this does not wait for.
    headers_received = trailers_received = window_updated = Unheard()

    _codec = CODEC
    _status_details_codec = None

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._id = 0
        self._parts: list[bytes] = []
        self.buffer = self.wrapper = self
        self.headers: Headers | None = None
        self.trailers: Headers | None = None
        self.data_received = 0

    async def answer(self, headers: Headers, data: bytes, seconds: float | None) -> bytes:
        """Makes the call.

        Args:
            data: the message, wrapped.
            seconds: for all of it; None: as long as it takes.

        Returns:
            The answer's message.

        Raises:
            GRPCError: the server says so, or says what nobody understands.
            StreamTerminatedError: the connection broke, or the server broke the call off.
            TimeoutError: it took too long.
        """
        self._id = self._protocol.send_unary(self, headers, data)
        timer = None if seconds is None else self._loop.call_later(seconds, self._expire)
        try:
            await self._over
        finally:
            if timer is not None:
                timer.cancel()
            self._protocol.forget(self._id, ErrorCodes.CANCEL)
        return self._message()

    def _message(self) -> bytes:
        stream = cast("Any", Stream)
        headers = dict(self.headers or ())
        if ":status" not in headers:
            raise GRPCError(Status.UNKNOWN, "the answer has no headers")
        stream._raise_for_status(self, headers)
        stream._raise_for_content_type(self, headers)
        if self.trailers is not None:
            headers = dict(self.trailers)
        if headers.get("grpc-status") != "0":
            status, message, details = stream._process_grpc_status(self, headers)
            raise GRPCError(status, message, details)
        return unwrap(self._parts)

    def _expire(self) -> None:
        self._fail(TimeoutError("deadline exceeded"))

    def _fail(self, error: Exception) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    # -- what grpclib calls

    def add(self, data: bytes, ack_size: int) -> None:
        """A part of the answer's message is there."""
        self._parts.append(data)
        self._protocol.has_read(self._id, ack_size)

    def __ended__(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def __terminated__(self, reason: str) -> None:
        self._fail(StreamTerminatedError(reason))

    def cancel(self, error: Exception) -> None:
        """It has failed."""
        self._fail(error)


async def ask(
    protocol: Protocol,
    where: Headers,
    request: Any,
    reply_type: type[Any],
    *,
    deadline: Deadline | None,
    metadata: Any,
) -> Any:
    """The answer to a unary call. Raises what `Ask.answer` raises.

    Args:
        where: method, scheme, path and authority.
        request: a message.

    Returns:
        A message, or None when there is no room for the call now, and nothing was sent.
    """
    data = wrap(CODEC.encode(request, type(request)))
    if not protocol.has_room(len(data)):
        return None
    headers = [*where]
    seconds = None
    if deadline is not None:
        seconds = deadline.time_remaining()
        if not seconds:
            raise TimeoutError("deadline exceeded")
        headers.append(("grpc-timeout", encode_timeout(seconds)))
    headers += _COMMON
    headers += encode_metadata(metadata)
    return CODEC.decode(await Ask(protocol).answer(headers, data, seconds), reply_type)


_COMMON = [
    ("te", "trailers"),
    ("content-type", GRPC_CONTENT_TYPE),
    ("user-agent", USER_AGENT),
]
