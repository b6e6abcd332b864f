"""Answers' heads and chunked bodies: what passes, what is cut out, where they end."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sanfran_router.framing import (
    ChunkedBody,
    ChunkedDecoder,
    LengthBody,
    TooLarge,
)
from sanfran_router.request import TRAILERS_DROPPED
from sanfran_router.response import CHUNKED, UNTIL_CLOSE, BadAnswer, parse_response
from sanfran_router.usual import USUAL_ANSWER

from router.tests.hostile_answers import NO_ANSWER


def head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(x + b"\r\n" for x in lines) + b"\r\n"


def test_an_answer_reaches_the_client_as_it_was_set() -> None:
    raw = head(
        b"Set-Cookie: a=1",
        b"content-TYPE:text/html",
        b"Connection: keep-alive",
        b"Set-Cookie: b=2",
        b"Keep-Alive: timeout=5",
        b"X-Sanfran-Secret: 1",
        b"Content-Length: 5",
        status=b"299 Very  Fine",
    )
    answer = parse_response(raw, to_head=False)
    assert answer.head == (
        b"HTTP/1.1 299 Very  Fine\r\nSet-Cookie: a=1\r\ncontent-TYPE:text/html\r\n"
        b"Set-Cookie: b=2\r\nContent-Length: 5\r\n"
    )
    assert (answer.status, answer.length, answer.keep_alive) == (299, 5, True)


def test_the_end_of_an_answer_is_known() -> None:
    assert parse_response(head(), to_head=False).length == UNTIL_CLOSE
    assert not parse_response(head(), to_head=False).keep_alive
    chunked = head(b"Transfer-Encoding: chunked")
    assert parse_response(chunked, to_head=False).length == CHUNKED
    assert b"Transfer" not in parse_response(chunked, to_head=False, dechunk=True).head
    for status in (b"204 No Content", b"304 Not Modified"):
        assert parse_response(head(b"Content-Length: 9", status=status), to_head=False).length == 0
    assert parse_response(head(b"Content-Length: 9"), to_head=True).length == 0
    assert b"Content-Length: 9" in parse_response(head(b"Content-Length: 9"), to_head=True).head
    old = head(b"Content-Length: 9").replace(b"HTTP/1.1", b"HTTP/1.0")
    assert not parse_response(old, to_head=False).keep_alive


def test_headers_that_an_answers_connection_lists_stay_here() -> None:
    raw = head(b"Connection: close, X-Hop", b"x-hop: 1", b"Content-Length: 0")
    answer = parse_response(raw, to_head=False)
    assert answer.head == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
    assert not answer.keep_alive


def test_the_retry_marker_counts_only_with_421() -> None:
    marker = (b"x-sanfran-retry: fenced", b"Content-Length: 0")
    assert parse_response(head(*marker, status=b"421 Misdirected Request"), to_head=False).retry
    assert not parse_response(head(*marker), to_head=False).retry
    assert not parse_response(head(marker[1], status=b"421 M"), to_head=False).retry


def test_the_short_way_takes_nothing_that_is_no_answer() -> None:
    for name, raw in NO_ANSWER.items():
        end = raw.find(b"\r\n\r\n") + 4
        if end < 4 or raw.startswith(b"HTTP/1.1 10") or len(raw) > 65536:
            continue
        with pytest.raises(BadAnswer):
            parse_response(raw[:end], to_head=False)
        usual = USUAL_ANSWER.match(raw)
        assert usual is None or bool(usual[2]) == bool(usual[4]), name


ANSWER_LINES = st.lists(
    st.sampled_from(
        [b"Content-Length: 3", b"content-length: 3", b"Connection: keep-alive", b"Connection: close",
         b"Keep-Alive: timeout=5", b"Date: x", b"X-Sanfran-A: b", b"Set-Cookie: a", b"Content-Type: t",
         b"Transfer-Encoding: chunked", b"Upgrade: x", b"Contented: 1", b"Keep: 1", b"X: \xe9"]
    ),
    max_size=6,
)  # fmt: skip


@given(ANSWER_LINES, st.sampled_from([b"200 OK", b"204 N", b"304 N", b"101 S", b"421 M", b"500 "]))
def test_a_usual_answer_is_what_the_full_parser_says(lines: list[bytes], status: bytes) -> None:
    raw = head(*lines, status=status)
    usual = USUAL_ANSWER.match(raw)
    if usual is None or bool(usual[2]) == bool(usual[4]):
        return
    assert usual.end() == len(raw)
    full = parse_response(raw, to_head=False)
    assert (full.status, full.length) == (int(usual[1]), int(usual[2] or usual[4]))
    assert full.keep_alive
    start, end = usual.span(3) if usual[3] else (0, 0)
    assert full.head == (raw[:start] + raw[end:])[:-2]


CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=5)


def encode(chunks: list[bytes], trailers: bytes = b"") -> bytes:
    framed = b"".join(b"%X;ext=1\r\n%b\r\n" % (len(one), one) for one in chunks)
    return framed + b"0\r\n" + trailers + b"\r\n"


@given(CHUNKS, st.lists(st.integers(0, 300), max_size=12), st.binary(max_size=10))
def test_chunks_decode_alike_however_they_are_cut(
    chunks: list[bytes], cuts: list[int], after: bytes
) -> None:
    raw = encode(chunks, b"X-T: 1\r\n") + after
    edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    decoder = ChunkedDecoder()
    payload: list[bytes] = []
    rest = b""
    for start, end in itertools.pairwise(edges):
        used = decoder.feed(raw[start:end], payload)
        rest += raw[start + used : end]
    assert decoder.done
    assert b"".join(payload) == b"".join(chunks)
    assert rest == after
    assert decoder.trailers == [(b"X-T", b"1")]


def test_a_request_body_is_framed_anew_without_extensions_and_risky_trailers() -> None:
    body = ChunkedBody(100, TRAILERS_DROPPED)
    raw = b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nContent-Length: 4\r\nX-Sanfran-A: b\r\nX-Sum: 1\r\n\r\nGET"
    piece, rest = body.feed(raw)
    assert piece == b"5\r\nabcde\r\n0\r\nX-Sum: 1\r\n\r\n"
    assert rest == b"GET"
    assert body.done


def test_a_chunked_body_over_the_limit_is_refused() -> None:
    body = ChunkedBody(4, TRAILERS_DROPPED)
    body.feed(b"3\r\nabc\r\n")
    with pytest.raises(TooLarge):
        body.feed(b"2\r\nde\r\n")


def test_a_body_of_known_length_ends_where_it_says() -> None:
    body = LengthBody(5)
    assert body.feed(b"abc") == (b"abc", b"")
    assert not body.done
    assert body.feed(b"deGET") == (b"de", b"GET")
    assert body.done
