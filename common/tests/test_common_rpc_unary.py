"""Unary calls past grpclib's streams, with peers that do what ours never do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpclib import GRPCError, Status
from sanfran_common.rpc import frames
from sanfran_common.rpc.answer import GATHERED_MOST, MOST
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.codec import CODEC
from sanfran_common.rpc.http2 import Http2
from sanfran_common.rpc.messages import wrap
from sanfran_common.rpc.server import RpcServer
from sanfran_proto.sanfran import v1 as pb

HEAD = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/sanfran.v1.Controller/Activate"),
    (":authority", "x"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]
QUESTION = wrap(CODEC.encode(pb.ActivateFunctionRequest(name="hello"), pb.ActivateFunctionRequest))


class Held(pb.ControllerBase):
    """Says when it runs, and how that ended."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.go_on = asyncio.Event()
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.size = 0
        self.error: Exception | None = None

    async def activate(self, message: pb.ActivateFunctionRequest) -> pb.Route:
        self.running.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.ended.put_nowait("cancelled")
            raise
        self.ended.put_nowait("done")
        if self.error is not None:
            raise self.error
        return pb.Route(name=message.name + "x" * self.size)


class Raw:
    """A client that speaks frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.wire = Http2(client=True)
        self.reader, self.writer = reader, writer
        self.seen: list[frames.Event] = []
        self.wire.initiate_connection()
        self.send()

    def send(self) -> None:
        self.writer.write(self.wire.data_to_send())

    def call(self, data: bytes, *more: tuple[str, str], end: bool = True) -> int:
        number = self.wire.get_next_available_stream_id()
        self.wire.send_headers(number, [*HEAD, *more])
        self.wire.send_data(number, data, end_stream=end)
        self.send()
        return number

    async def until(self, kind: type[frames.Event]) -> Any:
        async with asyncio.timeout(5):
            while not (found := [one for one in self.seen if type(one) is kind]):
                self.seen += self.wire.receive_data(await self.reader.read(65536))
                self.send()
            return found[0]

    async def status(self) -> tuple[str, str]:
        """Of the one answer."""
        await self.until(frames.Ended)
        last = [one for one in self.seen if isinstance(one, frames.Begun)][-1]
        headers = dict(last.headers)
        return headers["grpc-status"], headers.get("grpc-message", "")


@asynccontextmanager
async def world(tmp_path: Path, secret: str = "") -> AsyncIterator[tuple[Held, Raw, RpcServer]]:
    held = Held()
    async with RpcServer([held], f"unix:{tmp_path}/s", secret=secret) as server:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s", limit=1 << 30)
        yield held, Raw(reader, writer), server
        writer.close()


def code(status: Status) -> str:
    return str(status.value)


async def test_a_question_may_come_in_pieces(tmp_path: Path) -> None:
    async with world(tmp_path) as (held, raw, _):
        held.go_on.set()
        number = raw.call(QUESTION[:3], end=False)
        await asyncio.sleep(0.02)
        assert not held.running.is_set()
        for byte in QUESTION[3:]:
            raw.wire.send_data(number, bytes((byte,)))
        raw.wire.end_stream(number)
        raw.send()
        assert await raw.status() == ("0", "")
        received = b"".join(one.data for one in raw.seen if isinstance(one, frames.Received))
        assert CODEC.decode(received[5:], pb.Route).name == "hello"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", Status.INTERNAL),
        (QUESTION + QUESTION, Status.INTERNAL),
        (QUESTION[:-1], Status.INTERNAL),
        (b"\1" + QUESTION[1:], Status.UNIMPLEMENTED),
        (wrap(b"\xff\xff\xff"), Status.UNKNOWN),
    ],
)
async def test_what_is_no_question_is_refused_and_the_connection_goes_on(
    tmp_path: Path, data: bytes, status: Status
) -> None:
    async with world(tmp_path) as (held, raw, _):
        held.go_on.set()
        raw.call(data)
        assert (await raw.status())[0] == code(status)
        raw.seen.clear()
        raw.call(QUESTION)
        assert (await raw.status())[0] == "0"


async def test_a_question_without_an_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (held, raw, _):
        number = raw.call(wrap(bytes(8 << 20))[:5], end=False)
        sent = 0
        while not any(isinstance(one, frames.Ended) for one in raw.seen):
            while raw.wire.local_flow_control_window(number) >= frames.FRAME:
                raw.wire.send_data(number, bytes(frames.FRAME))
                sent += frames.FRAME
            raw.send()
            async with asyncio.timeout(5):
                raw.seen += raw.wire.receive_data(await raw.reader.read(65536))
            assert sent < 3 * MOST
        assert (await raw.status())[0] == code(Status.RESOURCE_EXHAUSTED)
        assert not held.running.is_set()
        await raw.until(frames.Reset)
        raw.seen.clear()
        held.go_on.set()
        raw.call(QUESTION)
        assert (await raw.status())[0] == "0"


async def test_a_method_ends_with_its_connection_whatever_else_was_called_on_it(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (held, raw, _):
        number = raw.call(QUESTION, end=False)
        for _ in range(20):  # grpclib tidies its tasks after every tenth call that it has
            raw.call(b"", ("content-type", "what"))
        raw.wire.end_stream(number)
        raw.send()
        await held.running.wait()
        raw.writer.transport.abort()
        async with asyncio.timeout(5):
            assert await held.ended.get() == "cancelled"


async def test_a_method_that_fails_tells_nothing_of_why(tmp_path: Path) -> None:
    async with world(tmp_path) as (held, raw, _):
        held.error = ValueError("a secret")
        held.go_on.set()
        raw.call(QUESTION)
        assert await raw.status() == (code(Status.UNKNOWN), "Internal Server Error")


async def test_a_message_of_a_status_may_be_of_any_characters(tmp_path: Path) -> None:
    held = Held()
    held.error = GRPCError(Status.FAILED_PRECONDITION, "zu spät:\n100%")
    held.go_on.set()
    async with RpcServer([held], f"unix:{tmp_path}/s") as server, RpcClient(server.address) as it:
        with pytest.raises(GRPCError) as refused:
            await pb.ControllerStub(it.channel).activate(pb.ActivateFunctionRequest())
        assert refused.value.message == "zu spät:\n100%"


async def test_a_caller_that_breaks_off_ends_the_method(tmp_path: Path) -> None:
    async with world(tmp_path) as (held, raw, _):
        number = raw.call(QUESTION)
        await held.running.wait()
        raw.wire.reset_stream(number)
        raw.send()
        assert await held.ended.get() == "cancelled"
        held.go_on.set()
        raw.call(QUESTION)
        assert (await raw.status())[0] == "0"


async def test_a_caller_that_breaks_off_before_the_method_s_first_step_leaves_nothing(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (held, raw, server):
        for _ in range(3):
            number = raw.wire.get_next_available_stream_id()
            raw.wire.send_headers(number, [*HEAD, ("grpc-timeout", "5S")])
            raw.wire.send_data(number, QUESTION, end_stream=True)
            raw.wire.reset_stream(number)
        raw.send()  # all of it in one piece
        held.go_on.set()
        raw.call(QUESTION)
        assert (await raw.status())[0] == "0"
        (protocol,) = server._server._protocols
        left: Any = protocol
        kept = [left._answers, left.processor.streams, left.handler._tasks]
        assert [len(one) for one in kept] == [0, 0, 0]


async def test_a_caller_that_is_cancelled_breaks_off(tmp_path: Path) -> None:
    held = Held()
    async with RpcServer([held], f"unix:{tmp_path}/s") as server, RpcClient(server.address) as it:
        stub = pb.ControllerStub(it.channel)
        asking = asyncio.create_task(stub.activate(pb.ActivateFunctionRequest()))
        await held.running.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await held.ended.get() == "cancelled"
        held.go_on.set()
        assert (await stub.activate(pb.ActivateFunctionRequest(name="on"))).name == "on"


@pytest.mark.parametrize("whole", [True, False])
async def test_a_deadline_ends_the_method_and_a_question_that_never_ends(
    tmp_path: Path, whole: bool
) -> None:
    async with world(tmp_path) as (held, raw, _):
        raw.call(QUESTION, ("grpc-timeout", "50m"), end=whole)
        assert (await raw.status())[0] == code(Status.DEADLINE_EXCEEDED)
        if whole:
            assert await held.ended.get() == "cancelled"
        else:
            await raw.until(frames.Reset)


async def test_a_connection_that_breaks_in_a_question_or_an_answer_leaves_nothing(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (held, raw, server):
        raw.call(QUESTION[:3], ("grpc-timeout", "5S"), end=False)
        raw.call(QUESTION)
        await held.running.wait()
        raw.writer.transport.abort()
        assert await held.ended.get() == "cancelled"
        async with asyncio.timeout(5):
            await server.drain(5)


async def test_an_answer_beyond_the_window_goes_on_as_the_caller_reads(tmp_path: Path) -> None:
    async with world(tmp_path) as (held, raw, _):
        held.size = frames.WINDOW + 10
        held.go_on.set()
        number = raw.call(QUESTION)
        await raw.until(frames.Received)
        total = 0
        while total < held.size:
            for one in [one for one in raw.seen if isinstance(one, frames.Received)]:
                total += len(one.data)
                raw.wire.acknowledge_received_data(len(one.data), number)
            raw.seen = [one for one in raw.seen if not isinstance(one, frames.Received)]
            raw.send()
            if total < held.size:
                await raw.until(frames.Received)
        assert (await raw.status())[0] == "0"


async def test_a_caller_that_leaves_in_an_answer_beyond_the_window_lets_the_server_stop(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (held, raw, server):
        held.size = frames.WINDOW + 10
        held.go_on.set()
        number = raw.call(QUESTION)
        await raw.until(frames.Received)
        raw.wire.reset_stream(number)
        raw.send()
        async with asyncio.timeout(5):
            await server.drain(5)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ([[(":status", "503")]], Status.UNAVAILABLE),
        ([[(":status", "200")]], Status.UNKNOWN),
        ([[(":status", "200"), ("content-type", "text/html")]], Status.UNKNOWN),
        ([[(":status", "200"), ("content-type", "application/grpc")]], Status.UNKNOWN),
        (
            [
                [(":status", "200"), ("content-type", "application/grpc")],
                [("grpc-status", "0")],
            ],
            Status.INTERNAL,
        ),
        (
            [
                [(":status", "200"), ("content-type", "application/grpc")],
                [("grpc-status", "what")],
            ],
            Status.UNKNOWN,
        ),
        (
            [[(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "5")]],
            Status.NOT_FOUND,
        ),
    ],
)
async def test_answers_that_are_none_are_errors_of_the_call(
    tmp_path: Path, answer: list[list[tuple[str, str]]], status: Status
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Http2(client=False)
        wire.initiate_connection()
        while data := await reader.read(65536):
            for event in wire.receive_data(data):
                if isinstance(event, frames.Ended):
                    for part in answer:
                        wire.send_headers(event.stream_id, part, end_stream=part is answer[-1])
            writer.write(wire.data_to_send())
        writer.close()

    async with (
        await asyncio.start_unix_server(serve, tmp_path / "s"),
        RpcClient(f"unix:{tmp_path}/s") as client,
    ):
        with pytest.raises(GRPCError) as refused:
            await pb.ControllerStub(client.channel).activate(
                pb.ActivateFunctionRequest(name="hello"), timeout=5
            )
        assert refused.value.status is status


def kept(server: RpcServer) -> int:
    """Bytes of questions that are not whole."""
    (protocol,) = server._server._protocols
    sizes = [sum(map(len, one._parts)) for one in protocol._answers.values()]
    assert protocol.gathered == sum(sizes)
    return protocol.gathered


async def test_nothing_is_kept_of_a_question_whose_caller_may_not_ask(tmp_path: Path) -> None:
    async with world(tmp_path, secret="right") as (held, raw, server):
        held.go_on.set()
        # Head and data in one piece, and no end: a caller that is let in would be waited for.
        for _ in range(20):
            number = raw.call(b"x" * 10_000, ("authorization", "Bearer wrong"), end=False)
        await raw.until(frames.Reset)
        refused = [dict(one.headers) for one in raw.seen if isinstance(one, frames.Begun)]
        assert {one["grpc-status"] for one in refused} == {code(Status.UNAUTHENTICATED)}
        assert kept(server) == 0
        while number in raw.wire.streams:
            raw.seen += raw.wire.receive_data(await raw.reader.read(65536))
        raw.seen.clear()
        raw.call(QUESTION, ("authorization", "Bearer right"))
        assert (await raw.status())[0] == "0"
        assert kept(server) == 0


async def test_questions_that_never_end_are_bounded_together(tmp_path: Path) -> None:
    async with asyncio.timeout(10), world(tmp_path) as (held, raw, server):
        held.go_on.set()
        numbers = [raw.call(b"", end=False) for _ in range(12)]
        seen: list[frames.Event] = []
        for number in numbers:
            for _ in range(3 << 6):
                while number in raw.wire.streams and not raw.wire.takes(number, 1 << 14):
                    seen += raw.wire.receive_data(await raw.reader.read(65536))
                if number in raw.wire.streams:
                    raw.wire.send_data(number, b"x" * (1 << 14))
                    raw.send()
                    await raw.writer.drain()
        while not any(isinstance(one, frames.Begun) for one in seen):
            seen += raw.wire.receive_data(await raw.reader.read(65536))
        (answer, *_) = [dict(one.headers) for one in seen if isinstance(one, frames.Begun)]
        assert answer["grpc-status"] == code(Status.RESOURCE_EXHAUSTED)
        assert "on one connection" in answer["grpc-message"]
        assert 0 < kept(server) <= GATHERED_MOST
        for number in numbers:
            if number in raw.wire.streams:
                raw.wire.reset_stream(number)
        raw.send()
        raw.call(QUESTION)
        while not any(isinstance(one, frames.Ended) for one in raw.seen):
            raw.seen += raw.wire.receive_data(await raw.reader.read(65536))
        assert kept(server) == 0
