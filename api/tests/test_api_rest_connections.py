"""Who sends REST no whole request: closed on, before anybody is asked who they are."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

BEGIN = b"GET /api/v1 HTTP/1.1\r\nHost: localhost\r\n"
WHOLE = BEGIN + b"\r\n"
UPLOAD = (
    b"POST /api/v1/functions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: multipart/form-data; boundary=edge\r\n\r\n"
)


@asynccontextmanager
async def connected(api: Any) -> Any:
    host, _, port = api.life.addresses["http"].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.close()


def error_of(answer: bytes) -> dict[str, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    error: dict[str, str] = json.loads(body)["error"]
    assert error.pop("request_id")
    return error


async def sent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, piece: bytes) -> bytes:
    """What comes back when a piece is sent again and again, until it is closed."""

    async def send() -> None:
        with suppress(ConnectionError):
            for _ in range(5000):
                writer.write(piece)
                await writer.drain()

    sending = asyncio.create_task(send())
    try:
        return await reader.read()
    finally:
        sending.cancel()
        await asyncio.wait([sending])


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(BEGIN, id="header fields"),
        pytest.param(BEGIN + b"X-Long: ", id="one header field"),
        pytest.param(b"GET /", id="a path"),
        pytest.param(UPLOAD + b"0\r\n", id="fields after a body"),
        pytest.param(UPLOAD + b"1;", id="what a piece says of itself"),
    ],
)
async def test_a_head_is_not_read_without_end(api: Any, begin: bytes) -> None:
    piece = b"x-a: 1\r\n" * 128 if begin.endswith(b"\n") else b"a" * 1024
    async with connected(api) as (reader, writer):
        writer.write(begin)
        answer = await sent(reader, writer, piece)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert error_of(answer) == {
        "code": "too_large",
        "message": "a head of more than 65536 bytes",
    }


async def test_a_body_of_any_length_in_small_pieces_is_no_head(api: Any) -> None:
    form = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.js"\r\n\r\n'
    async with connected(api) as (reader, writer):
        writer.write(UPLOAD + b"%x\r\n%b\r\n" % (len(form), form))
        writer.write(b"1\r\n/\r\n" * 100_000)
        await writer.drain()
        end = b"\r\n--edge--\r\n"
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))
        assert b"name: is missing" in await reader.readuntil(b"}}")


@pytest.mark.parametrize("begin", [b"", b"\r\n", BEGIN], ids=["nothing", "a line", "a part"])
@pytest.mark.parametrize("first", [b"", WHOLE], ids=["first", "later"])
async def test_a_head_that_does_not_come_in_time_is_not_waited_for(
    api: Any, monkeypatch: pytest.MonkeyPatch, first: bytes, begin: bytes
) -> None:
    monkeypatch.setattr("sanfran_api.rest.connection.HEAD_SECONDS", 0.3)
    async with connected(api) as (reader, writer):
        if first:
            writer.write(first)
            assert b" 200 " in await reader.readuntil(b"}}}")
        writer.write(begin)
        answer = await reader.read()
    if begin:
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert error_of(answer)["code"] == "request_timeout"
    else:
        assert answer == b"", "nothing was asked"


async def test_a_request_that_takes_longer_than_a_head_may_is_answered(
    run_api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanfran_api.rest.connection.HEAD_SECONDS", 0.1)
    async with run_api(upload_idle_timeout=0.8) as api, connected(api) as (reader, writer):
        writer.write(UPLOAD)
        assert b" 408 " in await reader.readline()
        assert b"upload_timeout" in await reader.readuntil(b"}}")


@pytest.mark.parametrize("wrong", [b"HELLO\r\n\r\n", UPLOAD + b"soon\r\n"], ids=["head", "body"])
async def test_what_is_no_http_gets_an_error_of_the_usual_form(api: Any, wrong: bytes) -> None:
    async with connected(api) as (reader, writer):
        writer.write(wrong)
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert error_of(answer)["code"] == "bad_request"
