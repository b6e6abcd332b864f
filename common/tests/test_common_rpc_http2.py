"""Our HTTP/2 against h2 as the other end, and against bytes that are none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
from grpclib.client import Channel
from grpclib.server import Server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sanfran_common.rpc import frames
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.http2 import Http2
from sanfran_common.rpc.server import RpcServer
from sanfran_proto.sanfran import v1 as pb

ASK = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.B/C"),
    (":authority", "x"),
    ("te", "trailers"),
]
ANSWER = [(":status", "200"), ("content-type", "application/grpc")]


def theirs(*, client: bool) -> Any:
    config = h2.config.H2Configuration(client_side=client, header_encoding="ascii")
    peer = h2.connection.H2Connection(config)
    peer.initiate_connection()
    return peer


def ours(*, client: bool) -> Http2:
    mine = Http2(client=client)
    mine.initiate_connection()
    return mine


def exchange(mine: Http2, peer: Any) -> tuple[list[Any], list[Any]]:
    """Carries bytes both ways until there are none; returns what each end has seen."""
    seen_here: list[Any] = []
    seen_there: list[Any] = []
    while (there := mine.data_to_send()) or peer._data_to_send:
        seen_there += peer.receive_data(there)
        seen_here += mine.receive_data(peer.data_to_send())
    return seen_here, seen_there


def names(events: list[Any]) -> list[str]:
    return [type(one).__name__ for one in events]


def test_a_call_goes_from_our_client_to_h2_and_back() -> None:
    mine, peer = ours(client=True), theirs(client=False)
    for number in (1, 3, 5):  # what both ends have kept of the first serves the others
        assert mine.get_next_available_stream_id() == number
        mine.send_headers(number, [*ASK, ("authorization", "Bearer " + "x" * 200)])
        mine.send_data(number, b"question", end_stream=True)
        _, seen = exchange(mine, peer)
        request: Any = next(one for one in seen if isinstance(one, h2.events.RequestReceived))
        assert [*ASK, ("authorization", "Bearer " + "x" * 200)] == request.headers
        peer.send_headers(number, ANSWER)
        peer.send_data(number, b"answer")
        peer.send_headers(number, [("grpc-status", "0")], end_stream=True)
        events, _ = exchange(mine, peer)
        assert names(events)[-4:] == ["Answered", "Received", "Trailed", "Ended"]
        assert list(events[-4].headers) == ANSWER
        assert events[-3].data == b"answer"
        assert not mine.streams


def test_a_call_goes_from_h2_to_our_server_and_back() -> None:
    mine, peer = ours(client=False), theirs(client=True)
    for number in (1, 3, 5):
        peer.send_headers(number, ASK)
        peer.send_data(number, b"question", end_stream=True, pad_length=7)
        seen, _ = exchange(mine, peer)
        assert names(seen)[-3:] == ["Begun", "Received", "Ended"]
        assert list(seen[-3].headers) == ASK
        assert (seen[-2].data, seen[-2].flow_controlled_length) == (b"question", 16)
        mine.send_headers(number, ANSWER)
        mine.send_data(number, b"answer")
        mine.send_headers(number, [("grpc-status", "0")], end_stream=True)
        _, events = exchange(mine, peer)
        assert names(events)[-4:] == [
            "ResponseReceived",
            "DataReceived",
            "TrailersReceived",
            "StreamEnded",
        ]
        assert not mine.streams


@given(
    blocks=st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b", "c-d", "authorization"]),
                st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=300),
            ),
            max_size=6,
        ),
        max_size=6,
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_headers_arrive_as_they_were_sent_whatever_came_before(
    blocks: list[list[tuple[str, str]]],
) -> None:
    mine, peer = ours(client=True), theirs(client=False)
    server, client = ours(client=False), theirs(client=True)
    for number, block in enumerate(blocks):
        mine.send_headers(number * 2 + 1, [*ASK, *block], end_stream=True)
        _, seen = exchange(mine, peer)
        there: list[Any] = [one for one in seen if isinstance(one, h2.events.RequestReceived)]
        assert there[0].headers == [*ASK, *block]
        client.send_headers(number * 2 + 1, [*ASK, *block], end_stream=True)  # with HPACK's table
        here, _ = exchange(server, client)
        begun = next(one for one in here if isinstance(one, frames.Begun))
        assert list(begun.headers) == [*ASK, *block]


def test_headers_longer_than_a_frame_go_both_ways() -> None:
    long = [*ASK, ("x", "y" * 40_000)]
    mine, peer = ours(client=True), theirs(client=False)
    exchange(mine, peer)
    mine.send_headers(1, long, end_stream=True)
    _, seen = exchange(mine, peer)
    assert any(getattr(one, "headers", None) == long for one in seen)
    server, client = ours(client=False), theirs(client=True)
    client.send_headers(1, long, end_stream=True)
    here, _ = exchange(server, client)
    assert any(list(getattr(one, "headers", ())) == long for one in here)


def test_headers_without_an_end_are_refused() -> None:
    server, client = ours(client=False), theirs(client=True)
    exchange(server, client)
    begin = frames.HEAD.pack(0, 1, frames.HEADERS, 0, 1) + b"\x83"
    more = frames.HEAD.pack(64, 0, frames.CONTINUATION, 0, 1) + b"\x83" * 16_384
    with pytest.raises(h2.exceptions.ProtocolError):
        server.receive_data(begin + more * 5)


def test_a_peer_that_sends_more_than_its_window_is_refused() -> None:
    server, client = ours(client=False), theirs(client=True)
    client.send_headers(1, ASK)
    exchange(server, client)
    piece = frames.HEAD.pack(64, 0, frames.DATA, 0, 1) + bytes(16_384)
    for _ in range(frames.WINDOW // 16_384):
        server.receive_data(piece)
    with pytest.raises(h2.exceptions.FlowControlError):
        server.receive_data(piece)


def test_the_window_of_a_call_and_of_the_connection_bounds_what_is_sent() -> None:
    mine, peer = ours(client=True), theirs(client=False)
    exchange(mine, peer)
    mine.send_headers(1, ASK)
    assert mine.local_flow_control_window(1) == 65_535
    mine.send_data(1, bytes(16_384))
    exchange(mine, peer)
    assert mine.local_flow_control_window(1) == 65_535 - 16_384
    peer.acknowledge_received_data(16_384, 1)
    peer.increment_flow_control_window(1000, 1)
    peer.increment_flow_control_window(1000)
    exchange(mine, peer)
    assert mine.local_flow_control_window(1) > 65_535 - 16_384


def test_a_call_that_either_end_resets_is_over_at_both_and_late_frames_do_no_harm() -> None:
    mine, peer = ours(client=True), theirs(client=False)
    for number in (1, 3):
        mine.send_headers(number, ASK)
    exchange(mine, peer)
    peer.reset_stream(1, error_code=8)
    seen, _ = exchange(mine, peer)
    assert names(seen) == ["Reset"]
    assert seen[0].error_code == 8
    with pytest.raises(h2.exceptions.StreamClosedError):
        mine.send_data(1, b"late")
    mine.reset_stream(3)
    peer.send_headers(3, ANSWER)  # on its way when our reset was
    peer.send_data(3, b"late")
    events = mine.receive_data(peer.data_to_send())
    assert events == []
    assert names(exchange(mine, peer)[1]) == ["StreamReset"]


def test_a_server_says_how_many_calls_it_takes_and_refuses_those_beyond() -> None:
    mine, server = ours(client=True), ours(client=False)
    for number in range(1, 2 * frames.STREAMS + 2, 2):
        mine.send_headers(number, ASK)  # it has not heard of the limit
    server.receive_data(mine.data_to_send())
    assert len(server.streams) == frames.STREAMS
    refused = mine.receive_data(server.data_to_send())
    assert [one.stream_id for one in refused if isinstance(one, frames.Reset)] == [number]
    with pytest.raises(h2.exceptions.TooManyStreamsError):
        mine.send_headers(mine.get_next_available_stream_id(), ASK)


def test_pings_are_answered_and_a_farewell_is_told() -> None:
    mine, peer = ours(client=True), theirs(client=False)
    exchange(mine, peer)
    peer.ping(b"12345678")
    assert names(exchange(mine, peer)[1]) == ["PingAckReceived"]
    mine.ping(b"87654321")
    assert names(exchange(mine, peer)[0]) == ["Ponged"]
    peer.close_connection(error_code=2)
    assert names(mine.receive_data(peer.data_to_send())) == ["Farewell"]


@given(data=st.binary(max_size=200), client=st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_bytes_that_break_the_rules_end_in_a_protocol_error_and_in_nothing_else(
    data: bytes, client: bool
) -> None:
    mine = ours(client=client)
    with contextlib.suppress(h2.exceptions.ProtocolError):
        mine.receive_data(data if client else frames.PREFACE + data)


@given(
    parts=st.lists(
        st.tuples(
            st.integers(0, 10), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40)
        ),
        max_size=6,
    ),
    cut=st.integers(0, 60),
)
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_frames_of_any_kind_and_flags_end_in_a_protocol_error_and_in_nothing_else(
    parts: list[tuple[int, int, int, bytes]], cut: int
) -> None:
    server = ours(client=False)
    data = frames.PREFACE + b"".join(
        frames.HEAD.pack(0, len(body), kind, flags, number) + body
        for kind, flags, number, body in parts
    )
    with contextlib.suppress(h2.exceptions.ProtocolError):
        server.receive_data(data[:cut])
        server.receive_data(data[cut:])


class Echo(pb.ControllerBase):
    """Answers with twice as much as it is asked with, and streams it in parts."""

    async def activate(self, message: pb.ActivateFunctionRequest) -> pb.Route:
        return pb.Route(name=message.name, controller=message.router * 2)

    async def watch_routes(self, message: pb.WatchRoutesRequest) -> AsyncIterator[pb.RouteEvent]:
        for number in range(20):
            yield pb.RouteEvent(route=pb.Route(name=message.router, sequence=number))


async def use(channel: Channel) -> None:
    """Calls of all sizes, at once and one after another, and a stream."""
    stub = pb.ControllerStub(channel)
    # Two big questions at once, and one answer, are beyond the window of a connection.
    sizes = [0, 1, 20_000, 70_000, 3 << 20, 3 << 20, 5]
    asked = [pb.ActivateFunctionRequest(name=str(n), router="r" * n) for n in sizes]
    async with asyncio.timeout(30):
        for answers in (
            [await stub.activate(one) for one in asked],
            await asyncio.gather(*(stub.activate(one, timeout=20) for one in asked)),
        ):
            assert [len(one.controller) for one in answers] == [2 * size for size in sizes]
        watched = stub.watch_routes(pb.WatchRoutesRequest(router="w" * 30_000))
        assert [one.route.sequence async for one in watched if one.route] == [*range(20)]


async def test_plain_grpclib_calls_our_server_with_messages_beyond_every_window(
    tmp_path: Path,
) -> None:
    async with RpcServer([Echo()], f"unix:{tmp_path}/s"):
        channel = Channel(path=f"{tmp_path}/s")
        await use(channel)
        channel.close()


async def test_our_client_calls_a_plain_grpclib_server_with_messages_beyond_every_window(
    tmp_path: Path,
) -> None:
    server = Server([Echo()])
    await server.start(path=str(tmp_path / "s"))
    async with RpcClient(f"unix:{tmp_path}/s") as client:
        await use(client.channel)
    server.close()
    await server.wait_closed()


async def test_our_client_and_server_exchange_messages_beyond_every_window(tmp_path: Path) -> None:
    async with (
        RpcServer([Echo()], f"unix:{tmp_path}/s", secret="s"),
        RpcClient(f"unix:{tmp_path}/s", secret="s") as client,
    ):
        await use(client.channel)


def test_a_header_that_is_not_ascii_begins_no_call() -> None:
    wire = Http2(client=True)
    number = wire.get_next_available_stream_id()
    with pytest.raises(UnicodeEncodeError):
        wire.send_headers(number, [(":path", "/\N{LATIN SMALL LETTER E WITH ACUTE}")])
    assert not wire.streams
    assert wire.get_next_available_stream_id() == number
