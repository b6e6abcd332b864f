"""Request heads: from a client's bytes to what a pod is sent.

llhttp parses, one whole head at a time; this module adds what llhttp leaves open, and writes the
head anew from the parsed parts. Nothing of a client's head reaches a pod as it came, so router and
pod cannot read it differently. Every doubt is 400 and a closed connection (RFC 9112, sections 2.2,
5, 6 and 11.2).
"""

from __future__ import annotations

import os
import re
from itertools import count
from typing import Final
from urllib.parse import unquote_to_bytes

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from sanfran_router import errors
from sanfran_router.errors import Refusal
from sanfran_router.usual import USUAL_REQUEST

CHUNKED: Final = -1
"""`Request.length` of a body whose length its sender does not know."""

_NAME = re.compile(rb"/fn/([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?=[/?]|\Z)")
_ESCAPED_NAME = re.compile(rb"/fn/([a-z0-9%A-F-]{1,189})(?=[/?]|\Z)")
_LABEL = re.compile(rb"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ABSOLUTE = re.compile(rb"https?://([^/?#:][^/?#]*)(/[^#]*)?(\?[^#]*)?", re.IGNORECASE)
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_BLANK = b" \t"
SPECIAL_HEADERS = frozenset(
    [
        b"connection",
        b"content-length",
        b"expect",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-request-id",
    ]
)
"""Not simply passed on, beside Host and x-sanfran-*: hop-by-hop, or the router's own to write."""
CREDENTIALS = b"x-sanfran-authorization"
"""What counts for a private function, in place of Authorization."""
TRAILERS_DROPPED = SPECIAL_HEADERS | {b"authorization", b"cookie", b"host", b"trailer"}
"""Headers that must not come as trailers (RFC 9110, section 6.5.1)."""
_SHORTEST_LINE = 4
"""Bytes of a header; a head with fewer than so many for each allowed one needs no counting."""
_ONCE = (b"content-length", b"transfer-encoding")
_MAY_CLOSE = (b"connection", b"proxy-connection")
"""Headers by which llhttp takes a message for its connection's last."""
_IDEMPOTENT = frozenset([b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"])
_NOT_DROPPED = frozenset(
    [b"close", b"keep-alive", b"upgrade", b"", b"content-length", b"transfer-encoding"]
)
"""Connection options that name no header, or one that frames the body: without it the pod would
read another message."""

_id_prefix = os.urandom(6).hex().encode() + b"-"
_ids = count(1)


def new_request_id() -> bytes:
    """An id for a request that brings none."""
    return b"%b%x" % (_id_prefix, next(_ids))


class Request:
    """A parsed head, with all that the router needs of it.

    Defaults are the class's, so that a usual request sets three attributes and not twelve
    (bench/router_cpu.py).
    """

    method: bytes
    name = ""
    """The function; empty when the target names none."""
    head: bytes
    """What a pod is sent, but for the lines that depend on the pod and the empty line."""
    length = 0
    """Bytes of the body, or CHUNKED."""
    keep_alive = True
    http10 = False
    expects_continue = False
    upgrade = False
    credentials = b""
    """For private functions: see `authorization.take_credentials`."""

    @property
    def target(self) -> bytes:
        """As it is forwarded: origin form, the function's name decoded."""
        return self.head.split(b" ", 2)[1]

    @property
    def request_id(self) -> bytes:
        """The client's, or a new one."""
        return self.head[self.head.rindex(b": ") + 2 : -2]

    @property
    def is_head(self) -> bool:
        """Its answer has no body."""
        return self.method == b"HEAD"

    @property
    def idempotent(self) -> bool:
        """RFC 9110, section 9.2.2: twice is as good as once."""
        return self.method in _IDEMPOTENT


class HeadParser:
    """Parses the heads of one connection.

    Args:
        peer: the client's IP address.
        trust_forwarded: keep the client's X-Forwarded-*, and append to X-Forwarded-For.
        max_head: bytes; more are HEAD_TOO_LARGE.
        max_headers: more are HEAD_TOO_LARGE.
        max_body: bytes; a longer Content-Length is TOO_LARGE.
    """

    __slots__ = (
        "_default_host",
        "_end",
        "_end_host",
        "_host",
        "_lines",
        "_max_body",
        "_max_head",
        "_max_headers",
        "_parser",
        "_peer",
        "_special",
        "_surely_few",
        "_trust",
        "_url",
    )

    def __init__(
        self,
        peer: bytes,
        default_host: bytes,
        *,
        trust_forwarded: bool,
        max_head: int,
        max_headers: int,
        max_body: int,
    ) -> None:
        # The connection
        self._peer = peer
        self._default_host = default_host
        self._trust = trust_forwarded
        self._max_head = max_head
        self._max_headers = max_headers
        self._surely_few = min(max_head, max_headers * _SHORTEST_LINE)
        self._max_body = max_body
        self._parser: HttpRequestParser | None = None
        self._end = self._end_host = b""

        # The head at work
        self._url = b""
        self._host: bytes | None = None
        self._lines: list[bytes] = []
        self._special: dict[bytes, bytes] = {}

    def parse_usual(self, raw: bytes) -> Request | None:
        """Parses what is exactly one head, and a usual one; None: `parse` has to look at it."""
        match = USUAL_REQUEST.fullmatch(raw)
        if match is None:
            return None
        size = len(raw)
        if size > self._surely_few and (
            size > self._max_head or raw.count(b"\n") - 2 > self._max_headers
        ):
            return None
        request = Request()
        request.method, name, host, connection = match.groups()
        request.name = name.decode()
        if host != self._end_host:
            self._special.clear()
            self._end = self._forwarded(host) + _id_prefix
            self._end_host = host
        if connection is None:
            request.head = b"%b%b%x\r\n" % (raw[:-2], self._end, next(_ids))
        else:
            start, end = match.span(4)
            request.head = b"%b%b%b%x\r\n" % (raw[:start], raw[end:-2], self._end, next(_ids))
        return request

    def parse(self, raw: bytes) -> Request:
        """Parses one head.

        Args:
            raw: from the method's first byte to the empty line, both included.

        Raises:
            Refusal: the request is answered with its problem, and nothing forwarded.
        """
        if len(raw) > self._max_head:
            raise Refusal(errors.HEAD_TOO_LARGE)
        self._url = b""
        self._host = None
        self._lines.clear()
        self._special.clear()
        parser = self._parser or HttpRequestParser(self)
        self._parser = None
        upgrade = False
        try:
            parser.feed_data(raw)
        except HttpParserUpgrade:
            upgrade = True
        except HttpParserError as error:
            raise Refusal(errors.BAD_REQUEST) from error
        request = self._request(parser.get_method(), raw)
        if not upgrade and not request.length and self._special.keys().isdisjoint(_MAY_CLOSE):
            self._parser = parser  # it is at the end of a message, ready for the next
        return request

    def _forwarded(self, host: bytes) -> bytes:
        """The lines that this router adds, up to the request's id."""
        told = self._special if self._trust else {}
        before = told.get(b"x-forwarded-for")
        return (
            b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\nX-Request-Id: "
            % (
                b"%b, %b" % (before, self._peer) if before else self._peer,
                told.get(b"x-forwarded-proto") or b"http",
                told.get(b"x-forwarded-host") or host,
            )
        )

    def _request(self, method: bytes, raw: bytes) -> Request:
        request = Request()
        request.method = method
        if not raw.startswith(b"%b %b HTTP/1.1\r\n" % (method, self._url)):
            if not raw.startswith(b"%b %b HTTP/1.0\r\n" % (method, self._url)):
                raise Refusal(errors.BAD_REQUEST)
            request.http10 = True
            request.keep_alive = False
        lines, special = self._lines, self._special
        if raw.count(b"\n") - 2 > self._max_headers:
            raise Refusal(errors.HEAD_TOO_LARGE)
        if method == b"CONNECT":
            raise Refusal(errors.CONNECT_REFUSED)
        target, host = self._target(request)
        if special:
            request.credentials = special.get(CREDENTIALS, b"")
            self._body(request)
            if b"connection" in special:
                self._on_connection(request)
            if b"expect" in special and not request.http10:
                self._on_expect(request)
        request_id = special.get(b"x-request-id", b"")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = new_request_id()
        request.head = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b%b\r\n" % (
            method,
            target,
            host,
            b"".join(lines),
            self._forwarded(host),
            request_id,
        )
        return request

    def _target(self, request: Request) -> tuple[bytes, bytes]:
        """Finds the function's name. Returns target and host that count (RFC 9112, section 3.2)."""
        target, host = self._url, self._host
        if host is None:
            if not request.http10:
                raise Refusal(errors.BAD_REQUEST)
            host = self._default_host
        if b"#" in target or _HOST.fullmatch(host) is None:
            raise Refusal(errors.BAD_REQUEST)
        if not target.startswith(b"/") and target != b"*":
            absolute = _ABSOLUTE.fullmatch(target)
            if absolute is None or _HOST.fullmatch(absolute[1]) is None:
                raise Refusal(errors.BAD_REQUEST)
            host = absolute[1]
            target = (absolute[2] or b"/") + (absolute[3] or b"")
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
        return target, host

    def _body(self, request: Request) -> None:
        transfer = self._special.get(b"transfer-encoding")
        length = self._special.get(b"content-length")
        if transfer is not None:
            if request.http10 or length is not None or transfer.lower() != b"chunked":
                raise Refusal(errors.BAD_REQUEST)
            request.length = CHUNKED
            self._lines.append(b"Transfer-Encoding: chunked\r\n")
        elif length is not None:
            if _LENGTH.fullmatch(length) is None:
                raise Refusal(errors.BAD_REQUEST)
            request.length = int(length)
            if request.length > self._max_body:
                raise Refusal(errors.TOO_LARGE)
            self._lines.append(b"Content-Length: %d\r\n" % request.length)

    def _on_connection(self, request: Request) -> None:
        listed = self._special[b"connection"]
        tokens = {token.strip(_BLANK).lower() for token in listed.split(b",")}
        if b"close" in tokens:
            request.keep_alive = False
        elif b"keep-alive" in tokens:
            request.keep_alive = True
        dropped = tokens - _NOT_DROPPED
        if dropped:
            self._lines[:] = [x for x in self._lines if x[: x.index(b":")].lower() not in dropped]
        # An upgrade beside a body, or to HTTP/2 behind the router's back, is only a plain request.
        upgrade = self._special.get(b"upgrade", b"")
        plain = request.http10 or request.length or b"h2c" in upgrade.lower()
        if b"upgrade" in tokens and upgrade and not plain:
            request.upgrade = True
            self._lines.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % upgrade)

    def _on_expect(self, request: Request) -> None:
        if self._special[b"expect"].lower() != b"100-continue":
            raise Refusal(errors.EXPECTATION)
        if request.length:
            request.expects_continue = True
            self._lines.append(b"Expect: 100-continue\r\n")

    # Called by llhttp.

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.lower()
        if key == b"host":
            if self._host is not None:
                raise Refusal(errors.BAD_REQUEST)
            self._host = value.strip(_BLANK)
        elif key in SPECIAL_HEADERS:
            former = self._special.get(key)
            if former is not None:
                if key in _ONCE:
                    raise Refusal(errors.BAD_REQUEST)
                value = b"%b, %b" % (former, value)
            self._special[key] = value.strip(_BLANK)
        elif not key.startswith(b"x-sanfran-"):
            self._lines.append(b"%b: %b\r\n" % (name, value))
        elif key == CREDENTIALS:
            former = self._special.get(key)
            value = value.strip(_BLANK)
            self._special[key] = value if former is None else b"%b, %b" % (former, value)
