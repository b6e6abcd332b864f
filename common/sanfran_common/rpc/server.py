"""A gRPC server: health, who may call, and a stop that lets running calls finish."""

from __future__ import annotations

import asyncio
import hmac
import os
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from grpclib.protocol import H2Protocol
from grpclib.server import Server, Stream
from sanfran_proto.grpc.health import v1 as health

from sanfran_common.config import join_host_port, split_host_port
from sanfran_common.rpc import frames
from sanfran_common.rpc.addresses import UNIX
from sanfran_common.rpc.answer import Answer, unary
from sanfran_common.rpc.codec import CODEC
from sanfran_common.rpc.listener import TlsListener
from sanfran_common.rpc.protocol import CalledConnection, Protocol
from sanfran_common.rpc.roles import Role, refusal
from sanfran_common.rpc.term import TermFence
from sanfran_common.rpc.tls import Tls

CLOSE_PATIENCE = 1.0
"""Seconds until what a client does not read is thrown away at a stop."""

Serving = health.HealthCheckResponseServingStatus


class Mapped(typing.Protocol):
    """A service: its methods by path."""

    def __mapping__(self) -> dict[str, Handler]: ...


Method = Callable[[Stream[Any, Any]], Awaitable[None]]
Check = Callable[[str, Stream[Any, Any]], None]
"""Path and call; raises GRPCError where the caller may not."""


class RpcServer:
    """Serves gRPC while its `async with` lasts.

    Args:
        handlers: the services.
        address: `host:port` (port 0 picks one) or `unix:/path`.
        secret: calls without it are UNAUTHENTICATED; empty: everyone may call.
        fence: refuses those who were replaced; None: nobody is.
        tls: where it is on, connections over TCP are TLS, and `roles.CALLERS` says who may call.
        ask_themselves: names of methods that may be called without secret and certificate, because they
            ask for other proof themselves.
        reflect: tell clients that were not compiled for it what is offered.
    """

    def __init__(
        self,
        handlers: Sequence[Mapped],
        address: str,
        *,
        secret: str = "",
        fence: TermFence | None = None,
        tls: Tls | None = None,
        ask_themselves: frozenset[str] = frozenset(),
        reflect: bool = False,
    ) -> None:
        over_tcp = not address.startswith(UNIX)
        self._tls = tls if tls is not None and tls.on and over_tcp else None
        self._listener: TlsListener | None = None
        self._ask_themselves = ask_themselves
        self._expected = f"Bearer {secret}" if secret else ""
        self._fence = fence
        self._health = _Health()
        served: list[Mapped] = [*handlers, self._health]
        if reflect:
            from sanfran_common.rpc.reflection import reflection  # which most services never need

            served += cast("list[Mapped]", reflection(served))
        self._server = _ClosingServer([_Guarded(one, self) for one in served], self.check_caller)
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self.address = address

    async def __aenter__(self) -> Self:
        if self.address.startswith(UNIX):
            path = self.address.removeprefix(UNIX)
            # Left by a process that was killed: its address is ours by configuration.
            Path(path).unlink(missing_ok=True)
            await self._server.start(path=path)
            os.chmod(path, 0o600)
        elif self._tls is not None:
            host, number = split_host_port(self.address)
            self._listener = self._server.tls_listener(
                self._tls, host, number, strangers=bool(self._ask_themselves)
            )
            self.address = join_host_port(*self._listener.sockets[0].getsockname()[:2])
            await self._listener.__aenter__()
        else:
            await self._server.start(*split_host_port(self.address))
            host, number = self._server.bound()
            self.address = join_host_port(host, number)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._draining = True
        try:
            await self._server.close_connections()
        finally:
            if self._listener is not None:
                await self._listener.__aexit__(kind, error, trace)
        if self.address.startswith(UNIX):
            Path(self.address.removeprefix(UNIX)).unlink(missing_ok=True)

    async def drain(self, grace: float) -> None:
        """Refuses new calls with UNAVAILABLE and waits for the running ones, streams apart.

        Args:
            grace: seconds to wait at most.
        """
        self._draining = True
        self._health.stop_serving()
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            pass

    def guard(self, path: str, method: Handler) -> Handler:
        """The method behind the check of who calls, and the count of running calls."""
        ends_by_itself = not method.cardinality.value.server_streaming
        func = cast("Method", method.func)

        async def guarded(stream: Stream[Any, Any]) -> None:
            if not isinstance(
                cast("Any", stream), Answer
            ):  # which was checked before any of its data was kept
                self.check_caller(path, stream)
            self._admit(stream)
            if not ends_by_itself:
                await func(stream)
                return
            self._running += 1
            self._idle.clear()
            try:
                await func(stream)
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()

        return Handler(
            guarded,
            cast("Cardinality", method.cardinality),
            method.request_type,
            method.reply_type,
        )

    def check_caller(self, path: str, stream: Stream[Any, Any]) -> None:
        """Passes who may call a method.

        Raises:
            GRPCError: the caller may not.
        """
        if self._ask_themselves:
            # Who may call some of the methods may learn how.
            asks = path.rpartition("/")[2] in self._ask_themselves
            if asks or path.startswith("/grpc.reflection."):
                return
        if self._tls is not None:
            caller = caller_of(stream)
            if (why := refusal(path, caller)) is not None:
                status = Status.PERMISSION_DENIED if caller else Status.UNAUTHENTICATED
                raise GRPCError(status, why)
        if self._expected:
            given = stream.metadata.get("authorization", "") if stream.metadata else ""
            if not hmac.compare_digest(str(given).encode(), self._expected.encode()):
                raise GRPCError(Status.UNAUTHENTICATED, "metadata authorization: not the secret")

    def _admit(self, stream: Stream[Any, Any]) -> None:
        if self._fence is not None:
            self._fence.admit(stream.metadata or {})
        if self._draining:
            raise GRPCError(Status.UNAVAILABLE, "stopping")


def caller_of(stream: Stream[Any, Any]) -> Role | None:
    """The role of who calls, by its certificate; None without TLS, and for callers that have none."""
    connection = cast("Any", stream)._stream.connection  # grpclib's, and `answer.Answer`'s
    return connection.caller if isinstance(connection, CalledConnection) else None


def address_of(stream: Stream[Any, Any]) -> str:
    """The host that calls; `unix` over a Unix socket."""
    peer = cast("Any", stream)._stream.connection.get_peer().addr()
    return str(peer[0]) if peer else "unix"


class _Guarded:
    """A service whose every method passes `RpcServer.guard`."""

    def __init__(self, service: Mapped, server: RpcServer) -> None:
        self._service = service
        self._server = server

    def __mapping__(self) -> dict[str, Handler]:
        methods: dict[str, Handler] = self._service.__mapping__()
        return {path: self._server.guard(path, method) for path, method in methods.items()}


class _ClosingServer(Server):
    """grpclib leaves connections open at a stop, for which `wait_closed` of Python 3.12 waits."""

    def __init__(self, handlers: Sequence[Any], check: Check) -> None:
        super().__init__(handlers, codec=CODEC)
        self._check = check
        self._protocols: set[_TrackedProtocol] = set()
        self._none_open = asyncio.Event()

    def _protocol_factory(self) -> H2Protocol:
        made = super()._protocol_factory()
        tracked = _TrackedProtocol(made.handler, made.config, made.h2_config)
        tracked.all = self._protocols
        tracked.check = self._check
        tracked.none_open = self._none_open
        return tracked

    def tls_listener(self, tls: Tls, host: str, port: int, *, strangers: bool) -> TlsListener:
        """In place of `start`; the caller opens it."""
        listener = TlsListener(
            self._protocol_factory,
            tls,
            strangers=strangers,
            host=host,
            port=port,
        )
        self._server = cast("Any", listener)
        self._server_closed_fut = self._loop.create_future()
        return listener

    def bound(self) -> tuple[str, int]:
        """Host and port of the first socket."""
        assert self._server is not None
        host, number = cast("Any", self._server).sockets[0].getsockname()[:2]
        return str(host), int(number)

    async def close_connections(self) -> None:
        """Stops listening, cancels what runs, closes every connection, waits for the handlers."""
        self.close()
        for protocol in tuple(self._protocols):
            protocol.processor.close(reason="server stopped")
        try:
            async with asyncio.timeout(CLOSE_PATIENCE):
                await self._wait_all_closed()
        except TimeoutError:
            for protocol in tuple(self._protocols):
                protocol.transport.abort()
            await self._wait_all_closed()

    async def _wait_all_closed(self) -> None:
        while self._protocols:
            self._none_open.clear()
            await self._none_open.wait()
        await self.wait_closed()


class _TrackedProtocol(Protocol):
    """Answers unary calls itself, and leaves others to grpclib."""

    all: set[_TrackedProtocol]
    check: Check
    none_open: asyncio.Event

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.all.add(self)
        self._answers: dict[int, Answer] = {}
        self._steps[frames.Begun] = self._on_begun
        self._steps[frames.Reset] = self._on_reset

    def _on_begun(self, event: frames.Begun) -> None:
        number, headers = event.stream_id, dict(event.headers)
        handler = cast("Any", self.handler)
        found = unary(handler.mapping, headers)
        if found is None:
            self.processor.process_request_received(cast("Any", event))
            return
        method, seconds = found

        def over() -> None:
            self._answers.pop(number, None)

        answer = Answer(self, number, method, headers, seconds, handler, over)
        self._answers[number] = answer
        self.processor.streams[number] = cast("Any", answer)
        try:
            self.check(headers[":path"], cast("Any", answer))
        except GRPCError as error:
            answer.refuse(error)

    def _on_reset(self, event: frames.Reset) -> None:
        answer = self._answers.get(event.stream_id)
        if answer is None:
            self.processor.process_stream_reset(cast("Any", event))
        else:
            answer.cancel()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.all.discard(self)
        if not self.all:
            self.none_open.set()
        super().connection_lost(exc)


class _Health(health.HealthBase):
    """The whole process serves or does not: no status per service name."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    def stop_serving(self) -> None:
        self._stopping.set()

    def _now(self) -> health.HealthCheckResponse:
        status = Serving.NOT_SERVING if self._stopping.is_set() else Serving.SERVING
        return health.HealthCheckResponse(status=status)

    async def check(self, message: health.HealthCheckRequest) -> health.HealthCheckResponse:
        return self._now()

    async def watch(
        self, message: health.HealthCheckRequest
    ) -> AsyncIterator[health.HealthCheckResponse]:
        yield self._now()
        await self._stopping.wait()
        yield self._now()
