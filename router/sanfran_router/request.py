"""Request heads: from a client's bytes to what a pod is sent.

llhttp parses, one whole head at a time; this module adds what llhttp leaves open, and writes the
head anew from the parsed parts. Nothing of a client's head reaches a pod as it came, so router and
pod cannot read it differently. Every doubt is 400 and a closed connection (RFC 9112, sections 2.2,
5, 6 and 11.2).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import count
from typing import Final
from urllib.parse import unquote_to_bytes

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from sanfran_router import errors
from sanfran_router.errors import Refusal
from sanfran_router.framing import BadFraming, check_lines

CHUNKED: Final = -1
"""`Request.length` of a body whose length its sender does not know."""

_NAME = re.compile(rb"/fn/([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?=[/?]|\Z)")
_ESCAPED_NAME = re.compile(rb"/fn/([a-z0-9%A-F-]{1,189})(?=[/?]|\Z)")
_LABEL = re.compile(rb"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(/[^#]*)?(\?[^#]*)?", re.IGNORECASE)
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_TOKEN_END = b" \t"
_IDEMPOTENT = frozenset([b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"])
"""RFC 9110, section 9.2.2."""
_STANDARD_CONNECTION = frozenset([b"close", b"keep-alive", b"upgrade", b""])

_id_prefix = os.urandom(6).hex().encode()
_ids = count(1)


def new_request_id() -> bytes:
    """An id for a request that brings none."""
    return b"%b-%x" % (_id_prefix, next(_ids))


class Request:
    """A parsed head, with all that the router needs of it."""

    __slots__ = (
        "expects_continue",
        "head",
        "http10",
        "idempotent",
        "is_head",
        "keep_alive",
        "length",
        "method",
        "name",
        "request_id",
        "target",
        "upgrade",
    )

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        """As it is forwarded: origin form, the function's name decoded."""
        self.name = ""
        """The function; empty when the target names none."""
        self.head = b""
        """What a pod is sent, but for the lines that depend on the pod and the empty line."""
        self.request_id = b""
        self.length = 0
        """Bytes of the body, or CHUNKED."""
        self.keep_alive = True
        self.http10 = False
        self.is_head = False
        self.idempotent = False
        self.expects_continue = False
        self.upgrade = False


class HeadParser:
    """Parses the heads of one connection.

    Args:
        peer: the client's IP address.
        trust_forwarded: keep the client's X-Forwarded-*, and append to X-Forwarded-For.
        max_headers: more are HEAD_TOO_LARGE.
        max_body: bytes; a longer Content-Length is TOO_LARGE.
    """

    __slots__ = (
        "_connection",
        "_default_host",
        "_expect",
        "_forwarded_for",
        "_forwarded_host",
        "_forwarded_proto",
        "_host",
        "_length",
        "_lines",
        "_max_body",
        "_max_headers",
        "_messages",
        "_parser",
        "_peer",
        "_request_id",
        "_seen",
        "_transfer",
        "_trust",
        "_upgrade",
        "_url",
    )

    def __init__(
        self,
        peer: bytes,
        default_host: bytes,
        *,
        trust_forwarded: bool,
        max_headers: int,
        max_body: int,
    ) -> None:
        self._peer = peer
        self._default_host = default_host
        self._trust = trust_forwarded
        self._max_headers = max_headers
        self._max_body = max_body
        self._lines: list[bytes] = []
        self._reset()
        self._parser: HttpRequestParser | None = None

    def _reset(self) -> None:
        self._url = b""
        self._lines.clear()
        self._seen = 0
        self._messages = 0
        self._host: bytes | None = None
        self._length: bytes | None = None
        self._transfer: bytes | None = None
        self._connection: list[bytes] | None = None
        self._upgrade: bytes | None = None
        self._expect: bytes | None = None
        self._request_id = b""
        self._forwarded_for = b""
        self._forwarded_proto = b""
        self._forwarded_host = b""

    def parse(self, raw: bytes) -> Request:
        """Parses one head.

        Args:
            raw: from the method's first byte to the empty line, both included.

        Raises:
            Refusal: the request is answered with its problem, and nothing forwarded.
        """
        try:
            check_lines(raw)
        except BadFraming as error:
            raise Refusal(errors.BAD_REQUEST) from error
        self._reset()
        parser = self._parser or HttpRequestParser(self)
        self._parser = None
        try:
            parser.feed_data(raw)
        except HttpParserUpgrade:
            complete = False  # the parser is spent
        except HttpParserError as error:
            raise Refusal(errors.BAD_REQUEST) from error
        else:
            complete = self._messages == 1
        request = self._request(parser.get_method(), raw)
        if complete and request.keep_alive:
            self._parser = parser
        return request

    def _request(self, method: bytes, raw: bytes) -> Request:
        request = Request()
        request.method = method
        line = raw[: raw.find(b"\r\n")]
        request.http10 = line.endswith(b" HTTP/1.0")
        version = b" HTTP/1.0" if request.http10 else b" HTTP/1.1"
        if line != method + b" " + self._url + version:
            raise Refusal(errors.BAD_REQUEST)
        if self._seen > self._max_headers:
            raise Refusal(errors.HEAD_TOO_LARGE)
        if method == b"CONNECT":
            raise Refusal(errors.CONNECT_REFUSED)
        request.is_head = method == b"HEAD"
        request.idempotent = method in _IDEMPOTENT
        request.keep_alive = not request.http10
        request.request_id = self._request_id or new_request_id()
        host = self._target(request)
        self._body(request)
        if self._connection is not None:
            self._on_connection(request, self._connection)
        lines = self._lines
        if request.upgrade and self._upgrade is not None:
            lines.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % self._upgrade)
        if self._expect is not None and not request.http10:
            self._on_expect(request, self._expect)
        peer = self._forwarded_for + self._peer
        request.head = (
            b"%b %b HTTP/1.1\r\nHost: %b\r\n%bX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\nX-Request-Id: %b\r\n"
            % (
                method,
                request.target,
                host,
                b"".join(lines),
                peer,
                self._forwarded_proto or b"http",
                self._forwarded_host or host,
                request.request_id,
            )
        )
        return request

    def _target(self, request: Request) -> bytes:
        """Finds the function's name. Returns the host that counts (RFC 9112, section 3.2)."""
        target, host = self._url, self._host
        if host is None:
            if not request.http10:
                raise Refusal(errors.BAD_REQUEST)
            host = self._default_host
        if not target.startswith(b"/") and target != b"*":
            absolute = _ABSOLUTE.fullmatch(target)
            if absolute is None:
                raise Refusal(errors.BAD_REQUEST)
            host = absolute[1]
            if not host:
                raise Refusal(errors.BAD_REQUEST)
            target = (absolute[2] or b"/") + (absolute[3] or b"")
        if b"#" in target or _HOST.fullmatch(host) is None:
            raise Refusal(errors.BAD_REQUEST)
        match = _NAME.match(target)
        if match is not None:
            request.name = match[1].decode()
        elif b"%" in target:
            escaped = _ESCAPED_NAME.match(target)
            if escaped is not None:
                name = unquote_to_bytes(escaped[1])
                if _LABEL.fullmatch(name):
                    request.name = name.decode()
                    target = b"/fn/" + name + target[escaped.end() :]
        request.target = target
        return host

    def _body(self, request: Request) -> None:
        if self._transfer is not None:
            if request.http10 or self._length is not None or self._transfer.lower() != b"chunked":
                raise Refusal(errors.BAD_REQUEST)
            request.length = CHUNKED
            self._lines.append(b"Transfer-Encoding: chunked\r\n")
        elif self._length is not None:
            if _LENGTH.fullmatch(self._length) is None:
                raise Refusal(errors.BAD_REQUEST)
            request.length = int(self._length)
            if request.length > self._max_body:
                raise Refusal(errors.TOO_LARGE)
            self._lines.append(b"Content-Length: %d\r\n" % request.length)

    def _on_connection(self, request: Request, values: list[bytes]) -> None:
        tokens = {
            token.strip(_TOKEN_END).lower() for value in values for token in value.split(b",")
        }
        if b"close" in tokens:
            request.keep_alive = False
        elif b"keep-alive" in tokens:
            request.keep_alive = True
        # An upgrade beside a body, or to HTTP/2 behind the router's back, is only a plain request.
        request.upgrade = (
            b"upgrade" in tokens
            and self._upgrade is not None
            and not request.http10
            and not request.length
            and not self._upgrade.lower().startswith(b"h2c")
        )
        for token in tokens - _STANDARD_CONNECTION:
            start = token + b":"
            # What frames the body stays: dropping it would make the pod read another message.
            if token not in (b"content-length", b"transfer-encoding"):
                self._lines[:] = [x for x in self._lines if x[: len(start)].lower() != start]

    def _on_expect(self, request: Request, value: bytes) -> None:
        if value.lower() != b"100-continue":
            raise Refusal(errors.EXPECTATION)
        if request.length:
            request.expects_continue = True
            self._lines.append(b"Expect: 100-continue\r\n")

    # Called by llhttp.

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._seen += 1
        key = name.lower()
        special = _SPECIAL.get(key)
        if special is not None:
            special(self, value.strip(_TOKEN_END))
        elif not key.startswith(b"x-sanfran-"):
            self._lines.append(b"%b: %b\r\n" % (name, value))

    def on_message_complete(self) -> None:
        self._messages += 1

    # One per header that is not simply passed on.

    def _on_host(self, value: bytes) -> None:
        if self._host is not None:
            raise Refusal(errors.BAD_REQUEST)
        self._host = value

    def _on_length(self, value: bytes) -> None:
        if self._length is not None:
            raise Refusal(errors.BAD_REQUEST)
        self._length = value

    def _on_transfer(self, value: bytes) -> None:
        if self._transfer is not None:
            raise Refusal(errors.BAD_REQUEST)
        self._transfer = value

    def _on_connection_header(self, value: bytes) -> None:
        if self._connection is None:
            self._connection = [value]
        else:
            self._connection.append(value)

    def _on_upgrade(self, value: bytes) -> None:
        self._upgrade = value if self._upgrade is None else self._upgrade + b", " + value

    def _on_expect_header(self, value: bytes) -> None:
        self._expect = value if self._expect is None else self._expect + b", " + value

    def _on_request_id(self, value: bytes) -> None:
        if _REQUEST_ID.fullmatch(value):
            self._request_id = value

    def _on_forwarded_for(self, value: bytes) -> None:
        if self._trust and value:
            self._forwarded_for += value + b", "

    def _on_forwarded_proto(self, value: bytes) -> None:
        if self._trust:
            self._forwarded_proto = value

    def _on_forwarded_host(self, value: bytes) -> None:
        if self._trust:
            self._forwarded_host = value

    def _drop(self, value: bytes) -> None:
        """Hop-by-hop: between the client and this router only."""


_SPECIAL: dict[bytes, Callable[[HeadParser, bytes], None]] = {
    b"host": HeadParser._on_host,
    b"content-length": HeadParser._on_length,
    b"transfer-encoding": HeadParser._on_transfer,
    b"connection": HeadParser._on_connection_header,
    b"upgrade": HeadParser._on_upgrade,
    b"expect": HeadParser._on_expect_header,
    b"x-request-id": HeadParser._on_request_id,
    b"x-forwarded-for": HeadParser._on_forwarded_for,
    b"x-forwarded-proto": HeadParser._on_forwarded_proto,
    b"x-forwarded-host": HeadParser._on_forwarded_host,
    b"keep-alive": HeadParser._drop,
    b"proxy-connection": HeadParser._drop,
    b"proxy-authorization": HeadParser._drop,
    b"te": HeadParser._drop,
    b"http2-settings": HeadParser._drop,
}

TRAILERS_DROPPED = frozenset([*_SPECIAL, b"authorization", b"cookie", b"trailer"])
"""Headers that must not come as trailers (RFC 9110, section 6.5.1)."""
