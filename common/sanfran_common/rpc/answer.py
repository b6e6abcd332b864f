"""A server's unary calls past grpclib's streams: the method runs when all of the question is there, and its answer
leaves in one piece. See `ask`, the other end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import GRPC_CONTENT_TYPE
from grpclib.metadata import decode_timeout, encode_grpc_message
from grpclib.protocol import Peer
from h2.errors import ErrorCodes
from h2.exceptions import StreamClosedError

from sanfran_common.rpc.codec import CODEC
from sanfran_common.rpc.headers import Headers
from sanfran_common.rpc.messages import unwrap, wrap
from sanfran_common.rpc.protocol import Protocol, Unheard
from sanfran_common.telemetry.logs import get_logger

log = get_logger("rpc")

CONTENT_TYPES = (GRPC_CONTENT_TYPE, f"{GRPC_CONTENT_TYPE}+proto")
HEAD = ((":status", "200"), ("content-type", f"{GRPC_CONTENT_TYPE}+proto"))
END = (("grpc-status", "0"),)

MOST = 4 << 20
"""Bytes of a question, as other implementations of gRPC have it."""
GATHERED_MOST = 8 * MOST
"""Bytes of all questions of a connection that are not whole yet: some may be asked by everybody."""

Method = Callable[[Any], Awaitable[None]]


class Answer:
    """One call: among grpclib's streams of its connection, and for the method, what grpclib's `Stream` is.

    Args:
        method: takes this for a stream.
        headers: of the call; also its metadata.
        seconds: the caller's deadline; None: none.
        handler: grpclib's of the connection, among whose tasks this one's runs.
        over: called when nothing more is to be done.
    """

    # What grpclib's streams have, and this does not wait for.
    headers_received = trailers_received = window_updated = Unheard()

    headers: Headers | None = None
    trailers: Headers | None = None

    def __init__(
        self,
        protocol: Protocol,
        stream_id: int,
        method: Handler,
        headers: dict[str, str],
        seconds: float | None,
        handler: Any,
        over: Callable[[], None],
    ) -> None:
        self._stream = protocol  # which `caller_of` looks at
        self._protocol = protocol
        self._id = stream_id
        self._method = method
        self._parts: list[bytes] = []
        self._size = 0
        self._reply: Any = None
        # Not its tasks: it replaces that dict, now and then, by a tidier one.
        self._handler = handler
        self._over = over
        self._late = False
        self._loop = asyncio.get_running_loop()
        self._timer = None if seconds is None else self._loop.call_later(seconds, self._expire)
        self._task: asyncio.Task[None] | None = None
        self._runs = False
        self.metadata = headers
        self.buffer = self
        self.data_received = 0

    @property
    def peer(self) -> Peer:
        """Who calls: the other end of the connection."""
        return self._protocol.connection.get_peer()

    def cancel(self) -> None:
        """The caller wants no answer any more."""
        if self._task is not None:
            self._task.cancel()
        if not self._runs:  # a task that is cancelled before its first step takes none
            self._end()

    def _expire(self) -> None:
        self._late = True
        if not self._runs:
            self._refuse(GRPCError(Status.DEADLINE_EXCEEDED))
        self.cancel()

    def _end(self) -> None:
        self._whole()
        if self._timer is not None:
            self._timer.cancel()
        self._handler._tasks.pop(self, None)
        self._protocol.forget(self._id, ErrorCodes.NO_ERROR)
        self._over()

    # -- what the method calls

    async def recv_message(self) -> Any:
        """The question."""
        return CODEC.decode(unwrap(self._parts), self._method.request_type)

    async def send_message(self, message: Any) -> None:
        """Keeps the answer until the method has ended."""
        self._reply = message

    # -- what grpclib calls

    def add(self, data: bytes, ack_size: int) -> None:
        """A part of the question is there."""
        self._protocol.has_read(self._id, ack_size)
        size = len(data)
        self._size += size
        self._protocol.gathered += size
        if self._size > MOST:
            self.refuse(GRPCError(Status.RESOURCE_EXHAUSTED, f"more than {MOST} bytes"))
        elif self._protocol.gathered > GATHERED_MOST:
            text = f"more than {GATHERED_MOST} bytes of calls on one connection that are not whole"
            self.refuse(GRPCError(Status.RESOURCE_EXHAUSTED, text))
        else:
            self._parts.append(data)

    def refuse(self, error: GRPCError) -> None:
        """Answers before the question is there, and keeps nothing of it."""
        self._parts.clear()
        self._refuse(error)
        self._end()

    def __ended__(self) -> None:
        if self._task is None:
            self._task = self._loop.create_task(self._run(), name="rpc")
            self._handler._tasks[self] = self._task

    def __terminated__(self, reason: str) -> None:
        # The connection is over, and its tasks are cancelled.
        if self._timer is not None:
            self._timer.cancel()

    def _whole(self) -> None:
        self._protocol.gathered -= self._size
        self._size = 0

    async def _run(self) -> None:
        self._runs = True
        self._whole()
        try:
            await self._answer()
        finally:
            self._end()

    async def _answer(self) -> None:
        try:
            await cast("Method", self._method.func)(self)
            data = wrap(CODEC.encode(self._reply, self._method.reply_type))
        except GRPCError as error:
            self._refuse(error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._late or task is None or task.uncancel():
                raise
            self._refuse(GRPCError(Status.DEADLINE_EXCEEDED))
        except Exception:
            log.exception("call failed")
            self._refuse(GRPCError(Status.UNKNOWN, "Internal Server Error"))
        else:
            if not self._protocol.answer_unary(self._id, HEAD, data, END):
                await self._answer_slowly(data)

    def _refuse(self, error: GRPCError) -> None:
        headers = [*HEAD, ("grpc-status", str(error.status.value))]
        if error.message is not None:
            headers.append(("grpc-message", encode_grpc_message(error.message)))
        self._protocol.answer_unary(self._id, headers, b"", ())

    async def _answer_slowly(self, data: bytes) -> None:
        """The caller reads it as it can: that is for a stream of grpclib's."""
        stream = self._protocol.connection.create_stream(stream_id=self._id)
        self._protocol.processor.streams[self._id] = stream
        try:
            await stream.send_headers([*HEAD])
            await stream.send_data(data)
            await stream.send_headers([*END], end_stream=True)
        except StreamClosedError:
            pass  # it left


def unary(
    mapping: dict[str, Handler], headers: dict[str, str]
) -> tuple[Handler, float | None] | None:
    """The method that a call is for and its deadline in seconds, if it is a plain unary call; all others are
    grpclib's."""
    method = mapping.get(headers.get(":path", ""))
    if (
        method is None
        or method.cardinality is not Cardinality.UNARY_UNARY
        or headers.get(":method") != "POST"
        or headers.get("content-type") not in CONTENT_TYPES
        or headers.get("te") != "trailers"
    ):
        return None
    timeout = headers.get("grpc-timeout")
    try:
        return method, None if timeout is None else decode_timeout(timeout)
    except ValueError:
        return None
