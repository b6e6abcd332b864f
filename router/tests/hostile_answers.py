"""What a stranger's function may make its pod say: name → bytes."""

from __future__ import annotations

from router.tests.hostile_requests import CHUNKS, TRAILERS

FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
"""The answer that another client is to get."""


def head(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """An answer's head; each line without its CRLF."""
    return b"\r\n".join([status, *lines, b"", b""])


def sized(value: bytes) -> bytes:
    return head(b"Content-Length: " + value) + FORGED


def coded(value: bytes) -> bytes:
    return head(b"Transfer-Encoding: " + value) + b"0\r\n\r\n" + FORGED


def line(status: bytes) -> bytes:
    return head(b"Content-Length: 0", status=status) + FORGED


CHUNK = b"Transfer-Encoding: chunked"

NO_ANSWER: dict[str, bytes] = {
    "two lengths": head(b"Content-Length: 0", b"Content-Length: 44") + FORGED,
    "the same length twice": head(b"Content-Length: 2", b"content-length: 2") + b"ok",
    "a list of lengths": sized(b"0, 0"),
    "a signed length": sized(b"+0"),
    "a negative length": sized(b"-1"),
    "a hexadecimal length": sized(b"0x2"),
    "an empty length": sized(b""),
    "a huge length": sized(b"18446744073709551616"),
    "a length beyond ASCII": sized("２".encode()),
    "a length with a NUL": sized(b"0\0"),
    "a length with a vertical tab": sized(b"\x0b0"),
    "a blank before a length's colon": head(b"Content-Length : 0") + FORGED,
    "a length, then chunked": head(b"Content-Length: 2", CHUNK) + b"0\r\n\r\n" + FORGED,
    "chunked, then a length": head(CHUNK, b"Content-Length: 2") + b"0\r\n\r\n" + FORGED,
    "chunked twice": head(CHUNK, CHUNK) + b"0\r\n\r\n" + FORGED,
    "chunked in a list": coded(b"chunked, chunked"),
    "gzip below chunked": coded(b"gzip, chunked"),
    "a comma behind chunked": coded(b"chunked,"),
    "identity": coded(b"identity"),
    "a near miss of chunked": coded(b"xchunked"),
    "chunked in quotes": coded(b'"chunked"'),
    "no coding": coded(b""),
    "a vertical tab before chunked": coded(b"\x0bchunked"),
    "chunked in HTTP/1.0": coded(b"chunked").replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "a folded header": head(b"X-A: b", b" c", b"Content-Length: 0"),
    "a folded coding": head(b"Transfer-Encoding:", b" chunked") + b"0\r\n\r\n",
    "a fold before the first header": head(b" X-A: b", b"Content-Length: 0"),
    "a bare LF": head(b"X-A: b\nContent-Length: 5", b"Content-Length: 0"),
    "a bare CR": head(b"X-A: b\rContent-Length: 5", b"Content-Length: 0"),
    "a NUL": head(b"X-A: b\0", b"Content-Length: 0"),
    "a control character": head(b"X-A: \x1b[2J", b"Content-Length: 0"),
    "LF only": head(b"Content-Length: 0").replace(b"\r\n", b"\n") + FORGED,
    "LF LF in the middle": head(b"X-A: b\n\nHTTP/1.1 200 OK", b"Content-Length: 0"),
    "a blank before a colon": head(b"X-A : b", b"Content-Length: 0"),
    "no name": head(b": b", b"Content-Length: 0"),
    "no colon": head(b"X-A", b"Content-Length: 0"),
    "a name beyond ASCII": head(b"\xc3\xa9: b", b"Content-Length: 0"),
    "nonsense": b"nonsense\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "an empty line first": b"\r\n" + FORGED,
    "a blank first": b" " + FORGED,
    "TLS": b"\x15\x03\x01\x00\x02\x02\x16\r\n\r\n",
    "HTTP/2": line(b"HTTP/2 200"),
    "HTTP/1.2": line(b"HTTP/1.2 200 OK"),
    "HTTP/0.9": line(b"HTTP/0.9 200 OK"),
    "small letters": line(b"http/1.1 200 OK"),
    "another protocol": line(b"ICY 200 OK"),
    "two digits": line(b"HTTP/1.1 20 OK"),
    "four digits": line(b"HTTP/1.1 2000 OK"),
    "a zero first": line(b"HTTP/1.1 099 OK"),
    "a sign": line(b"HTTP/1.1 +20 OK"),
    "two blanks": line(b"HTTP/1.1  200 OK"),
    "a tab": line(b"HTTP/1.1\t200 OK"),
    "a CR in the reason": line(b"HTTP/1.1 200 O\rK"),
    "a NUL in the reason": line(b"HTTP/1.1 200 O\0K"),
    "a switch that nobody asked for": head(
        b"Connection: Upgrade", b"Upgrade: x", status=b"HTTP/1.1 101 S"
    )
    + FORGED,
    "a switch to nothing": head(status=b"HTTP/1.1 101 S") + FORGED,
    "an interim answer with a body": head(b"Content-Length: 2", status=b"HTTP/1.1 103 E")
    + b"ok"
    + FORGED,
    "a bad interim answer": head(b" x", status=b"HTTP/1.1 103 E") + FORGED,
    "interim answers without an end": head(status=b"HTTP/1.1 102 P") * 1000 + FORGED,
    "a giant head": head(b"X-A: " + b"b" * 70_000, b"Content-Length: 0") + FORGED,
    "a head without an end": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 10_000,
}
"""What is no HTTP, or could be read in two ways."""


def _body(request: bytes) -> bytes:
    return head(CHUNK) + request.partition(b"\r\n\r\n")[2]


BROKEN: dict[str, bytes] = {
    f"{kind}: {name}": _body(request)
    for kind, table in (("chunks", CHUNKS), ("trailers", TRAILERS))
    for name, request in table.items()
}
"""What breaks in the middle: the clients that attack with chunks have colleagues among functions."""

SURPLUS: dict[str, tuple[bytes, bytes, bytes]] = {
    "a second answer": (b"GET", head(b"Content-Length: 2") + b"ok" + FORGED, b"ok"),
    "a second answer behind nothing": (b"GET", head(b"Content-Length: 0") + FORGED, b""),
    "a second answer behind chunks": (
        b"GET",
        head(CHUNK) + b"2\r\nok\r\n0\r\n\r\n" + FORGED,
        b"2\r\nok\r\n0\r\n\r\n",
    ),
    "a second answer behind trailers": (
        b"GET",
        head(CHUNK) + b"0\r\nX-T: 1\r\n\r\n" + FORGED,
        b"0\r\nX-T: 1\r\n\r\n",
    ),
    "a second answer behind 204": (b"GET", head(status=b"HTTP/1.1 204 N") + FORGED, b""),
    "a sized 204": (b"GET", head(b"Content-Length: 44", status=b"HTTP/1.1 204 N") + FORGED, b""),
    "a chunked 204": (b"GET", head(CHUNK, status=b"HTTP/1.1 204 N") + b"0\r\n\r\n" + FORGED, b""),
    "a sized 304": (b"GET", head(b"Content-Length: 44", status=b"HTTP/1.1 304 N") + FORGED, b""),
    "a chunked 304": (b"GET", head(CHUNK, status=b"HTTP/1.1 304 N") + b"0\r\n\r\n" + FORGED, b""),
    "a body for HEAD": (b"HEAD", head(b"Content-Length: 44") + FORGED, b""),
    "chunks for HEAD": (b"HEAD", head(CHUNK) + b"0\r\n\r\n" + FORGED, b""),
    "a body without an end for HEAD": (b"HEAD", head() + FORGED, b""),
    "a few bytes more": (b"GET", head(b"Content-Length: 2") + b"ok\r\n\r\n", b"ok"),
    "half a second answer": (b"GET", head(b"Content-Length: 2") + b"okHTTP/1.1 200", b"ok"),
    "an interim answer behind": (
        b"GET",
        head(b"Content-Length: 2") + b"ok" + head(status=b"HTTP/1.1 100 C"),
        b"ok",
    ),
    "an answer in a header": (
        b"GET",
        head(b"X-A: HTTP/1.1 200 OK", b"Content-Length: 2") + b"ok" + FORGED,
        b"ok",
    ),
    "Connection lists what frames": (
        b"GET",
        head(b"Connection: content-length", b"Content-Length: 2") + b"ok" + FORGED,
        b"ok",
    ),
    "a near miss of a length": (
        b"GET",
        head(b"Content_Length: 44", b"Content-Length: 2") + b"ok" + FORGED,
        b"ok",
    ),
}
"""A whole answer and more: method, what the pod sends, the body that the client gets."""
