"""gRPC clients: one balanced client per remote service, for generated stubs.

`pb.ApiStub(client.channel)` calls whichever address has the fewest pending calls;
`pb.ControllerStub(client.keyed(name))` the one that rendezvous hashing gives for the name. A call
whose connection cannot be made goes to the next address, since nothing was sent, and so does a unary one that a server
refuses before it looks at it; what fails later is never repeated here: only the caller knows whether that is safe.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from grpclib import GRPCError, Status
from grpclib.client import Channel, Stream
from grpclib.const import Cardinality
from grpclib.exceptions import ProtocolError, StreamTerminatedError
from grpclib.metadata import Deadline
from h2.exceptions import StreamClosedError
from sanfran_proto.grpc.health import v1 as health

from sanfran_common.lifecycle import TaskOwner
from sanfran_common.rpc.addresses import parse_target
from sanfran_common.rpc.balancer import Balancer, NoAddress
from sanfran_common.rpc.channel import SomeChannel, TlsFailure, open_channel
from sanfran_common.rpc.names import NameLookups
from sanfran_common.rpc.protocol import Protocol, StreamRefused
from sanfran_common.rpc.term import TERM
from sanfran_common.rpc.tls import ClientTls
from sanfran_common.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = get_logger("rpc")

CONNECT_TIMEOUT = 2.0
"""Seconds; within one cluster a connection takes milliseconds or never comes."""
CONNECT_LEAST = 0.5
"""Seconds of trying below which a connection that did not come says nothing about the address."""
PROBE_TIMEOUT = 1.0
BROKEN = (OSError, StreamTerminatedError, ProtocolError)

Pick = Callable[[frozenset[str]], str]
T = TypeVar("T")


class Unreachable(GRPCError):
    """No address could be reached. Nothing was sent, so a repeat is safe, whatever the call does."""

    def __init__(self, message: str) -> None:
        super().__init__(Status.UNAVAILABLE, message)


class _Refused(Unreachable):
    """The server at `address` did not take the call."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{address}: takes no further call now")
        self.address = address


class RpcClient(TaskOwner):
    """Calls one remote service at one or many addresses. Open it with `async with`.

    Args:
        addresses: see `addresses.parse_target`.
        secret: sent with every call; empty: none.
        term: sent with every call, to servers with a `TermFence`; 0: none.
        tls: for connections over TCP, see `tls.Tls.to`; None: without TLS.
    """

    def __init__(
        self, addresses: str, *, secret: str = "", term: int = 0, tls: ClientTls | None = None
    ) -> None:
        super().__init__(f"rpc client {addresses}")
        self._tls = tls
        self._target = parse_target(addresses)
        self._metadata = {"authorization": f"Bearer {secret}"} if secret else {}
        if term:
            self._metadata[TERM] = str(term)
        self._balancer = Balancer(self._target.fixed)
        self._channels: dict[str, SomeChannel] = {}
        self._calls: Counter[Channel] = Counter()  # that run
        self._retired: set[Channel] = set()  # of addresses that are gone, until their calls end
        self._closed = False
        self._changed = asyncio.Event()
        self._ejected = asyncio.Event()
        self._name = NameLookups(self._replace)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._target.dns is not None:
            self._tasks.loop(self._name.run(*self._target.dns), name="resolve")
        self._tasks.loop(self._probe(), name="probe")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            for channel in (*self._channels.values(), *self._retired):
                channel.close()
            self._channels.clear()
            self._retired.clear()

    @property
    def channel(self) -> Channel:
        """For stubs: each call goes to the address with the fewest pending ones."""
        return self._view(lambda tried: self._balancer.pick(time.monotonic(), tried=tried))

    def keyed(self, key: str, rank: int = 0) -> Channel:
        """For stubs: calls go where every other client sends this key too.

        Args:
            rank: 1: where they would, were the first one not there, and so on.
        """

        def pick(tried: frozenset[str]) -> str:
            now, passed = time.monotonic(), set(tried)
            for _ in range(rank):
                passed.add(self._balancer.pick_by_key(key, now, tried=passed))
            return self._balancer.pick_by_key(key, now, tried=passed)

        return self._view(pick)

    def each(self) -> Mapping[str, Channel]:
        """One channel per address, for what every instance must be asked. See `wait_changed`."""
        return {address: self.at(address) for address in self._balancer.addresses}

    def at(self, address: str) -> Channel:
        """For stubs: this address and no other."""

        def pick(tried: frozenset[str]) -> str:
            if tried:
                raise NoAddress(f"{address} cannot be reached")
            return address

        return self._view(pick)

    def suspect(self, address: str) -> None:
        """What is at the address does not answer, though connections hold: calls go elsewhere until it
        answers a probe."""
        self._eject(address, TimeoutError("does not answer"))

    async def wait_changed(self) -> None:
        """Returns when the set of addresses has changed since the last call began."""
        await self._changed.wait()
        self._changed.clear()

    def _view(self, pick: Pick) -> Channel:
        # Stubs use nothing of a channel but `request`; see the decision on betterproto2.
        return cast("Channel", _View(self, pick))

    def _channel_to(self, address: str) -> SomeChannel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = open_channel(address, self._tls)
        return channel

    @asynccontextmanager
    async def _call(
        self,
        pick: Pick,
        use: Callable[[SomeChannel], AbstractAsyncContextManager[T]],
        deadline: Deadline | None,
        refused: frozenset[str] = frozenset(),
    ) -> AsyncIterator[T]:
        """What a channel is used for in one call, whose errors become those that callers know.

        Args:
            refused: addresses that did not take it.
        """
        address, channel = await self._connect(pick, deadline, {*refused})
        self._calls[channel] += 1
        try:
            async with use(channel) as used:
                yield used
            self._balancer.succeeded(address)
        except GRPCError:
            self._balancer.succeeded(address)  # it answers; what it says is for the caller
            raise
        except StreamClosedError as error:
            # The server ended the call while we still sent; grpclib does not look for its status.
            raise GRPCError(Status.ABORTED, f"{address}: ended the call early") from error
        except TimeoutError as error:  # an OSError too, so before those
            raise GRPCError(Status.DEADLINE_EXCEEDED, f"{address}: no answer in time") from error
        except StreamRefused as error:
            self._balancer.succeeded(address)
            raise _Refused(address) from error
        except BROKEN as error:
            self._eject(address, error)
            text = f"{address}: connection broke{_unheard(channel)}"
            raise GRPCError(Status.UNAVAILABLE, text) from error
        finally:
            self._balancer.ended(address)
            self._calls[channel] -= 1
            self._close_unused(channel)

    async def _connect(
        self, pick: Pick, deadline: Deadline | None, tried: set[str]
    ) -> tuple[str, SomeChannel]:
        """Counts the call as pending at the address that it returns, which is none of those tried."""
        last: BaseException | None = None
        while True:
            if self._closed:
                raise Unreachable("this client is closed")
            try:
                address = pick(frozenset(tried))
            except NoAddress as error:
                self._name.doubted.set()
                text = f"no address answers: {last}" if last else str(error)
                raise Unreachable(text) from (last or error)
            channel = self._channel_to(address)
            if channel.open:
                self._balancer.started(address)
                return address, channel
            left = CONNECT_TIMEOUT if deadline is None else deadline.time_remaining()
            self._balancer.started(address)
            try:
                async with asyncio.timeout(min(left, CONNECT_TIMEOUT)):
                    await channel.__connect__()
                return address, channel
            except OSError as error:
                self._balancer.ended(address)
                tried.add(address)
                last = error
                if left >= CONNECT_LEAST or not isinstance(error, TimeoutError):
                    self._eject(address, error)
            except BaseException:
                self._balancer.ended(address)
                raise

    def _close_unused(self, channel: Channel) -> None:
        if not self._calls[channel]:
            del self._calls[channel]
            if channel in self._retired:
                self._retired.discard(channel)
                channel.close()

    def _eject(self, address: str, error: BaseException) -> None:
        first = self._balancer.failed(address, time.monotonic())
        # What certificates are or say does not pass by itself, as most failures do.
        say = log.warning if first and isinstance(error, TlsFailure) else log.debug
        say("address ejected", address=address, error=str(error))
        self._ejected.set()
        self._name.doubted.set()

    async def _probe(self) -> None:
        """Asks ejected addresses for their health when their time is up."""
        while True:
            # At the same time: one that takes its time must not keep another from coming back.
            async with asyncio.TaskGroup() as probes:
                for address in self._balancer.to_probe(time.monotonic()):
                    probes.create_task(self._probe_one(address), name=f"probe {address}")
            now = time.monotonic()
            due = self._balancer.next_probe_at()
            self._ejected.clear()
            try:
                async with asyncio.timeout(None if due is None else max(due - now, 0.01)):
                    await self._ejected.wait()
            except TimeoutError:
                pass

    async def _probe_one(self, address: str) -> None:
        stub = health.HealthStub(self._channel_to(address))
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                await stub.check(health.HealthCheckRequest(), metadata=self._metadata)
        except BROKEN:
            self._balancer.failed(address, time.monotonic())
            return
        except GRPCError:
            pass  # it answers; what it says is for the caller
        self._balancer.succeeded(address)

    def _replace(self, addresses: set[str]) -> None:
        if self._balancer.update(sorted(addresses)):
            for gone in self._channels.keys() - addresses:
                # A replica that stops leaves the name at once, and finishes what it runs.
                channel = self._channels.pop(gone)
                self._retired.add(channel)
                self._close_unused(channel)
            self._changed.set()


def _unheard(channel: Channel) -> str:
    protocol = channel._protocol  # its own attribute, which nothing else shows
    if isinstance(protocol, Protocol) and not protocol.heard:
        return " before its first word; does it want TLS, by --tls-dir?"
    return ""


class _View:
    """What generated stubs need of a channel: picks an address for each request."""

    def __init__(self, client: RpcClient, pick: Pick) -> None:
        self._client = client
        self._pick = pick

    def request(
        self,
        name: str,
        cardinality: Cardinality,
        request_type: type[Any],
        reply_type: type[Any],
        *,
        timeout: float | None = None,
        deadline: Deadline | None = None,
        metadata: Any = None,
    ) -> Any:
        limit = deadline if timeout is None else Deadline.from_timeout(timeout)
        sent = self._client._metadata  # its own module
        if metadata:
            sent = {**sent, **dict(metadata)}
        if cardinality is Cardinality.UNARY_UNARY:
            return _Unary(self._client, self._pick, name, reply_type, limit, sent)

        def open_stream(channel: SomeChannel) -> Stream[Any, Any]:
            return channel.request(
                name, cardinality, request_type, reply_type, deadline=limit, metadata=sent
            )

        return self._client._call(self._pick, open_stream, limit)


class _Unary:
    """What generated stubs need of the stream of a unary call, whose one message is sent when the answer is
    asked for."""

    def __init__(
        self,
        client: RpcClient,
        pick: Pick,
        path: str,
        reply_type: type[Any],
        deadline: Deadline | None,
        metadata: Mapping[str, Any],
    ) -> None:
        self._client = client
        self._pick = pick
        self._path = path
        self._reply_type = reply_type
        self._deadline = deadline
        self._metadata = metadata
        self._request: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def send_message(self, message: Any, *, end: bool) -> None:
        self._request = message

    async def recv_message(self) -> Any:
        refused: dict[str, _Refused] = {}
        while True:
            try:
                return await self._ask(frozenset(refused))
            except _Refused as error:
                refused[error.address] = error
            except Unreachable:  # there is no other
                if refused:
                    raise next(iter(refused.values())) from None
                raise

    async def _ask(self, refused: frozenset[str]) -> Any:
        call = self._client._call(self._pick, nullcontext, self._deadline, refused)
        async with call as channel:
            return await channel.ask(
                self._path,
                self._request,
                self._reply_type,
                deadline=self._deadline,
                metadata=self._metadata,
            )
