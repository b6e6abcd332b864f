"""Requests that are legal, however odd: each has one meaning, and pods get exactly that."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.tests.hostile_requests import CHUNK, HIDDEN, LINE, chunked, get, length, post


@dataclass(frozen=True)
class Passed:
    """What comes, and what a pod is to read."""

    raw: bytes
    method: bytes = b"POST"
    target: bytes = b"/fn/hello/open"
    body: bytes = b""
    has: tuple[tuple[bytes, bytes], ...] = ()
    """Headers, names in lower case."""
    lacks: tuple[bytes, ...] = ()
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    closes: bool = field(default=False, kw_only=True)
    """No request can follow it."""


def ask(method: bytes, *lines: bytes, body: bytes = HIDDEN) -> Passed:
    """Any method with a body, which is a body."""
    raw = get(*lines, line=LINE.replace(b"GET", method), body=body)
    return Passed(raw, method, body=HIDDEN)


SIZED = b"Content-Length: %d" % len(HIDDEN)
ONE_CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
FRAMING_TRAILERS = (
    b"0\r\nContent-Length: 44\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nTrailer: x\r\n"
    b"Authorization: a\r\nCookie: a\r\nConnection: close\r\nX-Sanfran-Activation: act-1\r\n"
    b"x-sanfran-retry: fenced\r\nX-Forwarded-For: 6.6.6.6\r\nX-Request-Id: 1\r\nExpect: 1\r\n"
    b"Upgrade: h2c\r\nTE: x\r\nX-Sum: 1\r\n\r\n"
)

PASSED: dict[str, Passed] = {
    "a GET with a body": ask(b"GET", SIZED),
    "a GET with chunks": ask(b"GET", CHUNK, body=ONE_CHUNK),
    "a HEAD with a body": ask(b"HEAD", SIZED),
    "a HEAD with chunks": ask(b"HEAD", CHUNK, body=ONE_CHUNK),
    "a DELETE with a body": ask(b"DELETE", SIZED),
    "a DELETE with chunks": ask(b"DELETE", CHUNK, body=ONE_CHUNK),
    "an OPTIONS with a body": ask(b"OPTIONS", SIZED),
    "an OPTIONS with chunks": ask(b"OPTIONS", CHUNK, body=ONE_CHUNK),
    "a PATCH with chunks": ask(b"PATCH", CHUNK, body=ONE_CHUNK),
    "a PROPFIND with a body": ask(b"PROPFIND", SIZED),
    "a POST without framing": Passed(post(body=b"")),
    "zeros before a length": Passed(length(b"0044"), body=HIDDEN),
    "00": Passed(length(b"00", body=b"")),
    "a length among tabs": Passed(length(b"\t44 \t"), body=HIDDEN),
    "a length without a blank": Passed(post(b"Content-Length:44"), body=HIDDEN),
    "a near miss of a length": Passed(
        post(b"Content_Length: 44", b"Content-Lengths: 44", b"X-Content-Length: 44", body=b""),
        has=((b"content_length", b"44"),),
        lacks=(b"content-length",),
    ),
    "a near miss of a coding": Passed(
        post(b"Transfer_Encoding: chunked", b"Transfer-Encodings: chunked", SIZED),
        body=HIDDEN,
        has=((b"transfer_encoding", b"chunked"), (b"content-length", b"44")),
        lacks=(b"transfer-encoding",),
    ),
    "a length inside another header": Passed(
        post(b"X-A: b Content-Length: 44", b"X-B: \tTransfer-Encoding: chunked", body=b""),
        lacks=(b"content-length", b"transfer-encoding"),
    ),
    "capital letters in chunked": Passed(
        post(b"TRANSFER-ENCODING:\t cHuNkEd ", body=ONE_CHUNK), body=HIDDEN
    ),
    "a coding without a blank": Passed(
        post(b"Transfer-Encoding:chunked", body=ONE_CHUNK), body=HIDDEN
    ),
    "zeros before a chunk's size": Passed(chunked(b"0002\r\nab\r\n000\r\n\r\n"), body=b"ab"),
    "small and capital digits": Passed(
        chunked(b"a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n"), body=b"01234567890123456789a"
    ),
    "extensions of chunks": Passed(
        chunked(b'2;x;y=1;z="a;b"\r\nab\r\n1 ; q\r\nc\r\n0;last\r\n\r\n'), body=b"abc"
    ),
    "a chunk that looks like an end": Passed(
        chunked(b"5\r\n0\r\n\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
        body=b"0\r\n\r\n" + HIDDEN,
    ),
    "trailers": Passed(
        chunked(b"1\r\na\r\n0\r\nX-Sum: 1\r\nx-sum:2\r\nX-Empty:\r\n\r\n", b"Trailer: X-Sum"),
        body=b"a",
        trailers=((b"X-Sum", b"1"), (b"x-sum", b"2"), (b"X-Empty", b"")),
    ),
    "trailers that frame, route or authorise": Passed(
        chunked(b"1\r\na\r\n" + FRAMING_TRAILERS),
        body=b"a",
        has=((b"host", b"a.example"), (b"x-sanfran-activation", b"act-1")),
        lacks=(b"content-length", b"authorization", b"cookie", b"x-sanfran-retry"),
        trailers=((b"X-Sum", b"1"),),
    ),
    "Connection lists what frames": Passed(
        post(b"Connection: Content-Length, keep-alive", SIZED),
        body=HIDDEN,
        has=((b"content-length", b"44"),),
    ),
    "Connection lists the coding": Passed(
        post(b"Connection: transfer-encoding", CHUNK, body=ONE_CHUNK), body=HIDDEN
    ),
    "Connection lists what routes": Passed(
        get(b"Connection: Host, X-Sanfran-Activation, x-sanfran-retry"),
        b"GET",
        has=((b"host", b"a.example"), (b"x-sanfran-activation", b"act-1")),
    ),
    "Connection lists what the router writes": Passed(
        get(b"Connection: X-Forwarded-For, X-Request-Id, Expect", b"X-Request-Id: mine"),
        b"GET",
        has=((b"x-forwarded-for", b"127.0.0.1"), (b"x-request-id", b"mine")),
    ),
    "Connection lists nothing, oddly": Passed(
        get(b"Connection: ,, ,", b"Connection:", b"Connection: \t,"), b"GET"
    ),
    "Connection lists a header twice": Passed(
        get(b"Connection: x-a", b"connection: X-B", b"X-A: 1", b"x-b: 2", b"X-C: 3"),
        b"GET",
        has=((b"x-c", b"3"),),
        lacks=(b"x-a", b"x-b", b"connection"),
    ),
    "close and keep-alive": Passed(get(b"Connection: keep-alive, close"), b"GET", closes=True),
    "close in a second line": Passed(
        get(b"Connection: keep-alive", b"Connection: CLOSE"), b"GET", closes=True
    ),
    "a forged activation": Passed(
        get(b"x-sanfran-activation: other"), b"GET", has=((b"x-sanfran-activation", b"act-1"),)
    ),
    "forged activations in all spellings": Passed(
        get(
            b"X-SANFRAN-ACTIVATION: other",
            b"x-sanfran-activation:other",
            b"x-Sanfran-Activation: \tact-1",
            b"X-Sanfran-: x",
            b"X-Sanfran-Retry: fenced",
        ),
        b"GET",
        has=((b"x-sanfran-activation", b"act-1"),),
        lacks=(b"x-sanfran-", b"x-sanfran-retry"),
    ),
    "an activation with underscores": Passed(
        get(b"X_Sanfran_Activation: other", b"x-sanfran_activation: other"),
        b"GET",
        has=((b"x-sanfran-activation", b"act-1"),),
    ),
    "an activation behind a listed one": Passed(
        get(b"Connection: x-sanfran-activation", b"X-Sanfran-Activation: other"),
        b"GET",
        has=((b"x-sanfran-activation", b"act-1"),),
    ),
    "h2c with a body": Passed(
        post(
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
            SIZED,
        ),
        body=HIDDEN,
        lacks=(b"upgrade", b"http2-settings", b"connection"),
    ),
    "h2c in a list": Passed(
        get(
            b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: websocket, h2c", b"HTTP2-Settings: a"
        ),
        b"GET",
        lacks=(b"http2-settings", b"upgrade", b"connection"),
    ),
    "h2c without its option": Passed(get(b"Upgrade: h2c"), b"GET", lacks=(b"upgrade",)),
    "an upgrade with a body": Passed(
        post(b"Connection: Upgrade", b"Upgrade: websocket", SIZED), body=HIDDEN, lacks=(b"upgrade",)
    ),
    "an upgrade with chunks": Passed(
        post(b"Connection: Upgrade", b"Upgrade: websocket", CHUNK, body=ONE_CHUNK),
        body=HIDDEN,
        lacks=(b"upgrade",),
    ),
    "an expectation": Passed(post(b"Expect: 100-Continue", SIZED), body=HIDDEN),
    "an expectation of a GET": ask(b"GET", b"Expect: 100-continue", SIZED),
    "an expectation of a HEAD": ask(b"HEAD", b"Expect: 100-continue", SIZED),
    "an expectation without a body": Passed(
        get(b"Expect: 100-continue"), b"GET", lacks=(b"expect",)
    ),
    "an expectation with length 0": Passed(
        post(b"Expect: 100-continue", b"Content-Length: 0", body=b""), lacks=(b"expect",)
    ),
    "an expectation in HTTP/1.0": Passed(
        post(b"Expect: payment", SIZED).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
        body=HIDDEN,
        lacks=(b"expect",),
        closes=True,
    ),
    "HTTP/1.0 with a hidden body": Passed(
        get(body=HIDDEN).replace(b"HTTP/1.1", b"HTTP/1.0", 1), b"GET", closes=True
    ),
    "HTTP/1.0 with an upgrade": Passed(
        get(b"Connection: Upgrade, keep-alive", b"Upgrade: x").replace(b"/1.1", b"/1.0", 1),
        b"GET",
        lacks=(b"upgrade",),
    ),
    "an absolute target": Passed(
        get(line=b"GET http://real.example/fn/hello/open HTTP/1.1\r\n"),
        b"GET",
        has=((b"host", b"real.example"), (b"x-forwarded-host", b"real.example")),
    ),
    "an absolute target in capital letters": Passed(
        get(line=b"GET HTTPS://Real.example:1/fn/hello/open HTTP/1.1\r\n"),
        b"GET",
        has=((b"host", b"Real.example:1"),),
    ),
    "an address in the target": Passed(
        get(line=b"GET /fn/hello/http://evil/fn/x HTTP/1.1\r\n"),
        b"GET",
        b"/fn/hello/http://evil/fn/x",
    ),
    "an encoded line end in the target": Passed(
        get(line=b"GET /fn/hello/%0d%0aX:%20y HTTP/1.1\r\n"), b"GET", b"/fn/hello/%0d%0aX:%20y"
    ),
    "forwarded headers": Passed(
        get(b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-Host: evil", b"X-Forwarded-Proto: https"),
        b"GET",
        has=((b"x-forwarded-for", b"127.0.0.1"), (b"x-forwarded-proto", b"http")),
    ),
    "a request id that is none": Passed(get(b"X-Request-Id: a b", b"X-Request-Id: c"), b"GET"),
    "proxies' headers": Passed(
        get(
            b"Proxy-Connection: close", b"Proxy-Authorization: x", b"Keep-Alive: 1", b"TE: trailers"
        ),
        b"GET",
        lacks=(b"proxy-connection", b"proxy-authorization", b"keep-alive", b"te"),
    ),
    "empty lines first": Passed(b"\r\n\r\n" + get(), b"GET"),
    "empty lines behind a body": Passed(length(b"44") + b"\r\n", body=HIDDEN),
    "values beyond ASCII": Passed(
        get("X-A: é".encode(), b"X-B: \xff\xfe"),
        b"GET",
        has=((b"x-a", "é".encode()), (b"x-b", b"\xff\xfe")),
    ),
    "an empty value": Passed(get(b"X-A:", b"X-B: "), b"GET", has=((b"x-a", b""), (b"x-b", b""))),
    "a request in a value": Passed(
        get(b"X-A: GET /fn/hello/hidden HTTP/1.1"),
        b"GET",
        has=((b"x-a", b"GET /fn/hello/hidden HTTP/1.1"),),
    ),
}
