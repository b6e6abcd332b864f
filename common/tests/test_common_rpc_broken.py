"""What is left of calls whose connection breaks, whose address goes, or whose caller does."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grpclib import GRPCError, Status
from h2.errors import ErrorCodes
from sanfran_common.rpc import frames
from sanfran_common.rpc.answer import END, HEAD
from sanfran_common.rpc.client import RpcClient, Unreachable
from sanfran_common.rpc.codec import CODEC
from sanfran_common.rpc.http2 import Http2
from sanfran_common.rpc.messages import wrap
from sanfran_common.rpc.server import RpcServer
from sanfran_proto.sanfran import v1 as pb


class Held(pb.ControllerBase):
    """Answers when it is let go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.let_go = asyncio.Event()

    async def activate(self, message: pb.ActivateFunctionRequest) -> pb.Route:
        self.entered.set()
        await self.let_go.wait()
        return pb.Route(name=message.name)


ASK = pb.ActivateFunctionRequest(name="hello")


@contextlib.asynccontextmanager
async def held_call(client: RpcClient, held: Held) -> AsyncIterator[asyncio.Task[Any]]:
    """A call that has reached the server and waits there."""

    async def call() -> tuple[Status | None, int]:
        task = asyncio.current_task()
        assert task is not None
        try:
            await pb.ControllerStub(client.channel).activate(ASK)
        except GRPCError as error:
            return error.status, task.cancelling()
        return None, task.cancelling()

    held.entered.clear()
    calling = asyncio.create_task(call())
    async with asyncio.timeout(2):
        await held.entered.wait()
        yield calling
        await asyncio.wait({calling})


def connection(client: RpcClient) -> Any:
    """The protocol of the client's only connection."""
    (channel,) = client._channels.values()
    return channel._protocol


def failures(client: RpcClient, address: str) -> int:
    return client._balancer._backends[address].failures


async def until(true: Callable[[], bool], patience: float = 5) -> None:
    async with asyncio.timeout(patience):
        while not true():  # noqa: ASYNC110  # probes tell nobody of themselves
            await asyncio.sleep(0.01)


@contextlib.contextmanager
def beyond_reach() -> Iterator[str]:
    """An address where a connection neither comes nor is refused: its queue is full."""
    with socket.socket() as listening, contextlib.ExitStack() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        yield f"127.0.0.1:{listening.getsockname()[1]}"


async def test_a_call_whose_connection_broke_leaves_its_task_uncancelled() -> None:
    held = Held()
    async with RpcServer([held], "127.0.0.1:0") as server, RpcClient(server.address) as client:
        async with held_call(client, held) as calling:
            connection(client).connection_lost(None)
        assert calling.result() == (Status.UNAVAILABLE, 0)


async def test_a_call_over_its_deadline_leaves_its_task_uncancelled(tmp_path: Path) -> None:
    held = Held()
    async with RpcServer([held], f"unix:{tmp_path}/a") as server, RpcClient(server.address) as rpc:
        with pytest.raises(GRPCError) as late:
            await pb.ControllerStub(rpc.channel).activate(ASK, timeout=0.05)
    assert late.value.status is Status.DEADLINE_EXCEEDED
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("first", ["cancelled", "broken"])
async def test_a_caller_cancelled_in_the_tick_in_which_the_connection_breaks_is_cancelled(
    first: str,
) -> None:
    held = Held()
    async with RpcServer([held], "127.0.0.1:0") as server, RpcClient(server.address) as client:
        async with held_call(client, held) as calling:
            if first == "cancelled":
                calling.cancel()
            connection(client).connection_lost(None)
            if first == "broken":
                calling.cancel()
        assert calling.cancelled()


async def test_a_probe_that_breaks_is_followed_by_the_next(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/a"

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with RpcClient(f"{address},unix:{tmp_path}/nobody") as client:
        async with await asyncio.start_unix_server(hang_up, f"{tmp_path}/a"):
            with pytest.raises(GRPCError):
                await pb.ControllerStub(client.at(address)).activate(ASK)
            await until(lambda: failures(client, address) >= 3)
        (tmp_path / "a").unlink(missing_ok=True)
        async with RpcServer([Held()], address):
            await until(lambda: not failures(client, address))


async def test_an_address_that_leaves_the_name_finishes_its_calls_and_closes() -> None:
    held = Held()
    async with RpcServer([held], "127.0.0.1:0") as server:
        number = server.address.rpartition(":")[2]
        async with RpcClient(f"dns:localhost:{number}") as client:
            async with asyncio.timeout(5):
                await client.wait_changed()
            async with held_call(client, held) as calling:
                client._replace(set())
                assert client.each() == {}
                held.let_go.set()
            assert calling.result() == (None, 0)
            assert not client._channels
            assert not client._retired
            assert not client._calls


async def test_a_connection_that_had_too_little_time_ejects_nobody() -> None:
    with beyond_reach() as address:
        async with RpcClient(address) as client:
            stub = pb.ControllerStub(client.channel)
            with pytest.raises(GRPCError) as refused:
                await stub.activate(ASK, timeout=0.05)
            assert refused.value.status is Status.UNAVAILABLE
            assert client._balancer.next_probe_at() is None
            with pytest.raises(GRPCError):
                await stub.activate(ASK, timeout=0.6)
            assert client._balancer.next_probe_at() is not None
            assert client._balancer._backends[address].pending == 0


async def test_addresses_beyond_reach_do_not_delay_the_probe_of_another(tmp_path: Path) -> None:
    with beyond_reach() as one, beyond_reach() as two, beyond_reach() as three:
        late = f"unix:{tmp_path}/late"
        async with RpcClient(f"{one},{two},{three},{late}") as client:
            for address in (one, two, three, late):
                client._eject(address, OSError("test"))
            async with RpcServer([Held()], late):
                await until(lambda: not failures(client, late), patience=2)


async def test_a_call_after_the_end_of_its_client_is_unavailable_and_opens_nothing() -> None:
    async with RpcServer([Held()], "127.0.0.1:0") as server:
        async with RpcClient(server.address) as client:
            stub = pb.ControllerStub(client.channel)
        with pytest.raises(GRPCError) as refused:
            await stub.activate(ASK)
        assert refused.value.status is Status.UNAVAILABLE
        assert not client._channels


class Flood(pb.ControllerBase):
    """Streams as fast as it may."""

    async def watch_routes(self, message: pb.WatchRoutesRequest) -> AsyncIterator[pb.RouteEvent]:
        while True:
            yield pb.RouteEvent(route=pb.Route(name="x" * 100_000))


async def test_a_client_that_reads_nothing_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    server = await RpcServer([Flood()], f"unix:{tmp_path}/a").__aenter__()
    async with RpcClient(server.address) as client:
        stream = pb.ControllerStub(client.channel).watch_routes(pb.WatchRoutesRequest())
        await anext(stream)
        connection(client).transport.pause_reading()
        (serving,) = server._server._protocols
        await until(lambda: serving.transport.get_write_buffer_size() > 0)
        async with asyncio.timeout(4):  # without the deadline for ever, from Python 3.12 on
            await server.__aexit__(None, None, None)
        connection(client).transport.resume_reading()
        with pytest.raises(GRPCError):
            _ = [event async for event in stream]


@pytest.mark.parametrize("kind", [frames.PING, frames.SETTINGS])
async def test_a_peer_that_asks_on_and_reads_no_answer_is_left(kind: int, tmp_path: Path) -> None:
    payload = b"12345678" if kind == frames.PING else b""
    asked = frames.HEAD.pack(0, len(payload), kind, 0, 0) + payload
    async with RpcServer([Flood()], f"unix:{tmp_path}/a"):
        _, writer = await asyncio.open_unix_connection(f"{tmp_path}/a", limit=1)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

        async def ask() -> None:
            for _ in range(1000):
                writer.write(asked * 1000)
                await writer.drain()

        async with asyncio.timeout(20):
            with pytest.raises(ConnectionError):
                await ask()
        writer.close()


async def test_the_kernel_watches_tcp_connections() -> None:
    held = Held()
    async with RpcServer([held], "127.0.0.1:0") as server, RpcClient(server.address) as client:
        async with held_call(client, held):
            transport = connection(client).connection._transport
            option = transport.get_extra_info("socket").getsockopt
            assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
            held.let_go.set()


@contextlib.asynccontextmanager
async def refusing(path: Path, take: int) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that takes only every `take`th call, and refuses others before it looks at them."""
    asked: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Http2(client=False)
        wire.initiate_connection()
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while data := await reader.read(65536):
                for event in wire.receive_data(data):
                    if isinstance(event, frames.Begun):
                        asked.append(event.stream_id)
                        if len(asked) % take:
                            wire.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
                        else:
                            reply = wrap(CODEC.encode(pb.Route(controller="raw"), pb.Route))
                            wire.send_headers(event.stream_id, HEAD)
                            wire.send_data(event.stream_id, reply)
                            wire.send_headers(event.stream_id, END, end_stream=True)
                writer.write(wire.data_to_send())

    async with await asyncio.start_unix_server(serve, path):
        yield f"unix:{path}", asked


async def test_a_call_that_a_server_refuses_to_take_goes_elsewhere_and_ejects_nobody(
    tmp_path: Path,
) -> None:
    async with (
        refusing(tmp_path / "a", 1 << 30) as (full, asked),
        refusing(tmp_path / "b", 1) as (
            other,
            _,
        ),
    ):
        async with RpcClient(f"{full},{other}") as client:
            stub = pb.ControllerStub(client.channel)
            for _ in range(4):
                assert (await stub.activate(ASK, timeout=5)).controller == "raw"
            assert len(asked) > 1  # it is asked on
            assert failures(client, full) == 0


async def test_a_call_that_nobody_takes_may_be_repeated(tmp_path: Path) -> None:
    async with refusing(tmp_path / "a", 2) as (full, asked), RpcClient(full) as client:
        stub = pb.ControllerStub(client.channel)
        with pytest.raises(Unreachable, match="takes no further call"):
            await stub.activate(ASK, timeout=5)
        assert (await stub.activate(ASK, timeout=5)).controller == "raw"
        with pytest.raises(Unreachable, match="takes no further call"):
            async for _ in stub.watch_routes(pb.WatchRoutesRequest(), timeout=5):
                pass
        assert failures(client, full) == 0
        assert len(asked) == 3
