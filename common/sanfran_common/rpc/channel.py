"""A grpclib channel to one address, and what grpclib 0.4 needs for a process that stays up."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from types import TracebackType
from typing import Any, cast

from grpclib.client import Channel, Handler, Stream
from grpclib.config import Configuration
from grpclib.const import Cardinality
from grpclib.metadata import Deadline
from grpclib.protocol import H2Protocol
from grpclib.utils import DeadlineWrapper

from sanfran_common.config import split_host_port
from sanfran_common.rpc.addresses import UNIX
from sanfran_common.rpc.ask import ask
from sanfran_common.rpc.certificates import ALPN, explain
from sanfran_common.rpc.codec import CODEC
from sanfran_common.rpc.protocol import Protocol
from sanfran_common.rpc.roles import host_name
from sanfran_common.rpc.tls import ClientTls

KEEPALIVE = {
    # A cut network says nothing: without probes a watch would wait for ever on a dead connection.
    # The kernel sends and answers them, so that a process whose event loop is held is not taken for
    # one beyond reach, as with pings of HTTP/2. Seconds, but for the last: see tcp(7).
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 2,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 15_000,
}


class TlsFailure(ConnectionError):
    """The connection did not come about, for what the certificates are or say."""


def open_channel(address: str, tls: ClientTls | None = None) -> SomeChannel:
    """A grpclib channel to one address; connects at its first call.

    Args:
        address: `host:port` or `unix:/path`.
        tls: for the former.
    """
    if address.startswith(UNIX):
        return SomeChannel(path=address.removeprefix(UNIX), codec=CODEC)
    host, number = split_host_port(address)
    if tls is not None:
        return _TlsChannel(host, number, tls)
    return SomeChannel(host, number, codec=CODEC)


class SomeChannel(Channel):
    @property
    def open(self) -> bool:
        """It is connected."""
        return self._connected

    async def ask(
        self,
        path: str,
        request: Any,
        reply_type: type[Any],
        *,
        deadline: Deadline | None,
        metadata: Any,
    ) -> Any:
        """The answer to a unary call; raises what `ask.Ask.answer` raises, and OSError."""
        protocol = cast("Protocol", await self.__connect__())
        where = [
            (":method", "POST"),
            (":scheme", self._scheme),
            (":path", path),
            (":authority", self._authority),
        ]
        found = await ask(
            protocol, where, request, reply_type, deadline=deadline, metadata=metadata
        )
        if found is not None:
            return found
        # It has to be sent in pieces, as the server reads, or when another call has ended.
        async with self.request(
            path,
            Cardinality.UNARY_UNARY,
            type(request),
            reply_type,
            deadline=deadline,
            metadata=metadata,
        ) as stream:
            await stream.send_message(request, end=True)
            return await stream.recv_message()

    def request(self, *args: Any, **settings: Any) -> Stream[Any, Any]:
        stream = super().request(*args, **settings)
        cast("Any", stream).__class__ = _Stream
        return stream

    def _protocol_factory(self) -> Protocol:
        return Protocol(Handler(), self._config, self._h2_config)

    async def _create_connection(self) -> H2Protocol:
        protocol = await super()._create_connection()
        if self._path is None:
            _keep_alive(protocol.connection._transport.get_extra_info("socket"))
        return protocol


class _TlsChannel(SomeChannel):
    """Connected when the server has said its first word, which it does when it has seen our certificate:
    with TLS 1.3 the handshake is over for a client before the server has looked at it."""

    def __init__(self, host: str, port: int, tls: ClientTls) -> None:
        # The name to expect is the role's, wherever it runs.
        config = Configuration(ssl_target_name_override=host_name(tls.server))
        super().__init__(host, port, codec=CODEC, ssl=tls.context, config=config)
        self._tls = tls

    def _protocol_factory(self) -> Protocol:
        return _Heard(Handler(), self._config, self._h2_config)

    async def _create_connection(self) -> H2Protocol:
        self._ssl = self._tls.context
        try:
            protocol = cast("_Heard", await super()._create_connection())
        except ssl.SSLError as error:
            raise TlsFailure(explain(error)) from error
        except ConnectionError as error:
            # Refused: nobody listens. Else somebody did, and left in the handshake.
            if isinstance(error, ConnectionRefusedError):
                raise
            raise TlsFailure(explain(error)) from error
        try:
            shown: Any = protocol.transport.get_extra_info("ssl_object")
            if shown.selected_alpn_protocol() != ALPN:
                raise TlsFailure(f"TLS: the other side's ALPN does not choose {ALPN}")
            await protocol.first_word
        except BaseException:
            protocol.transport.abort()
            raise
        return protocol


class _Heard(Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.first_word = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.first_word.done():
            self.first_word.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self.first_word.done():
            error = exc or ConnectionResetError("closed without a word")
            self.first_word.set_exception(TlsFailure(explain(error)))
            self.first_word.exception()  # seen, also where the one who waits for it has left
        super().connection_lost(exc)


def _keep_alive(connection: Any) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


class _Stream(Stream[Any, Any]):
    async def __aenter__(self) -> Stream[Any, Any]:
        self._wrapper = _Wrapper()
        if self._deadline is not None:
            self._wrapper_ctx = self._wrapper.start(self._deadline)
            self._wrapper_ctx.__enter__()
        return self

    async def recv_trailing_metadata(self) -> None:
        """A server may end a call before its client has ended its side; what it says of the end counts
        then, whether or not its reset of the stream has arrived as well."""
        if self._stream.trailers is not None:
            self._end_done = True
        await super().recv_trailing_metadata()


class _Wrapper(DeadlineWrapper):
    """Wakes those who wait in a call whose connection broke or whose time is up.

    grpclib does it by cancelling their tasks, and raises another error in place of `CancelledError`. Here
    the task's count of cancellations goes back too: left raised, the task's next task group (Python
    3.13) or timeout (3.11.2) would end it as cancelled. And a cancellation by somebody else in the same
    tick stays one: a loop that connects again and again would never end.
    """

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[asyncio.Task[Any], int] = {}
        self._woken: Counter[asyncio.Task[Any]] = Counter()

    def __enter__(self) -> None:
        super().__enter__()
        task = _this_task()
        self._before[task] = task.cancelling()

    def cancel(self, error: Exception) -> None:
        self._woken.update(self._tasks)
        super().cancel(error)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        task = _this_task()
        for _ in range(self._woken.pop(task, 0)):
            task.uncancel()
        by_others = task.cancelling() > self._before.pop(task)
        if by_others and exc_type is asyncio.CancelledError:
            self._tasks.discard(task)
            return
        super().__exit__(exc_type, exc_val, exc_tb)


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None, "a call belongs to a task"
    return task
