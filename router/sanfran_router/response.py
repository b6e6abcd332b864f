"""Response heads: read strictly, then passed on with the pod's own bytes.

What is between pod and router only is cut out of the head; the rest (status line, order,
duplicates, spelling) reaches the client as the handler set it. A head that is not plainly valid is
no answer at all: the pod runs a stranger's code, and the client's connection may carry other
people's requests.
"""

from __future__ import annotations

import re
from typing import Final

BODY_NONE: Final = 0
UNTIL_CLOSE: Final = -2
CHUNKED: Final = -1

_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*+)?\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+\r\n"
)
_SPECIAL = re.compile(
    rb"\r\n(connection|keep-alive|content-length|transfer-encoding|upgrade|proxy-connection"
    rb"|x-sanfran-[^:]*):[ \t]*([^\r]*)"
)
_LINE = re.compile(rb"\r\n([^:\r]+):[^\r]*")
_KEEP = (b"content-length", b"transfer-encoding")
_NOT_LISTED = frozenset([*_KEEP, b"close", b"keep-alive", b"upgrade", b""])


class BadAnswer(Exception):
    """The bytes are no valid response head."""


class ResponseHead:
    """A parsed head."""

    __slots__ = ("head", "keep_alive", "length", "retry", "status", "switch")

    def __init__(self, status: int, head: bytes, length: int) -> None:
        self.status = status
        self.head = head
        """To be sent on, without its empty line."""
        self.length = length
        """Bytes of the body, or CHUNKED, or UNTIL_CLOSE."""
        self.keep_alive = True
        self.retry = False
        """The handler did not run: to be sent to another pod."""
        self.switch = b""
        """The value of Upgrade in a 101."""


def parse_response(raw: bytes, *, to_head: bool, dechunk: bool = False) -> ResponseHead:
    """Parses one head.

    Args:
        raw: from `HTTP/` to the empty line, both included.
        to_head: it answers a HEAD request, so no body follows.
        dechunk: the client speaks HTTP/1.0: Transfer-Encoding is cut out too.

    Raises:
        BadAnswer: not valid, or its body's end could be read in two ways.
    """
    match = _HEAD.fullmatch(raw)
    if match is None:
        raise BadAnswer("not a response head")
    status = int(match[2])
    length: int | None = None
    chunked = False
    keep_alive: bool | None = None
    retry = False
    switch = b""
    listed: set[bytes] = set()
    cuts: list[tuple[int, int]] = []
    bodiless = status < 200 or status == 204
    low = raw.lower()
    for special in _SPECIAL.finditer(low):
        name, value = special[1], special[2].rstrip(b" \t")
        if name == b"content-length":
            if length is not None or not value.isdigit() or len(value) > 18:
                raise BadAnswer("bad Content-Length")
            length = int(value)
        elif name == b"transfer-encoding":
            if chunked or value != b"chunked":
                raise BadAnswer("unknown Transfer-Encoding")
            chunked = True
            if dechunk:
                cuts.append(special.span())
        elif name == b"connection":
            tokens = {token.strip(b" \t") for token in value.split(b",")}
            if b"close" in tokens:
                keep_alive = False
            elif b"keep-alive" in tokens and keep_alive is None:
                keep_alive = True
            listed |= tokens - _NOT_LISTED
        elif name == b"x-sanfran-retry":
            retry = status == 421
        elif name == b"upgrade":
            switch = raw[special.start(2) : special.end(2)].rstrip(b" \t")
            if status == 426:
                continue
        if bodiless or name not in _KEEP:
            cuts.append(special.span())
    if chunked and length is not None:
        raise BadAnswer("Content-Length beside Transfer-Encoding")
    http10 = match[1] == b"0"
    if chunked and http10:
        raise BadAnswer("Transfer-Encoding in HTTP/1.0")
    if listed:
        cuts += [line.span() for line in _LINE.finditer(low) if line[1] in listed]
    if bodiless or to_head or status == 304:
        size = BODY_NONE
    elif chunked:
        size = CHUNKED
    else:
        size = UNTIL_CLOSE if length is None else length
    if http10:
        raw = b"HTTP/1.1" + raw[8:]  # each hop says its own version (RFC 9112, section 2.3)
    answer = ResponseHead(status, _without(raw, cuts), size)
    answer.keep_alive = size != UNTIL_CLOSE and (not http10 if keep_alive is None else keep_alive)
    answer.retry = retry
    answer.switch = switch
    return answer


def _without(raw: bytes, cuts: list[tuple[int, int]]) -> bytes:
    """The head without the lines at `cuts` and without its last, empty line."""
    end = len(raw) - 2
    if not cuts:
        return raw[:end]
    cuts.sort()
    pieces, at = [], 0
    for start, stop in cuts:
        if start > at:
            pieces.append(raw[at:start])
        at = max(at, stop)
    pieces.append(raw[at:end])
    return b"".join(pieces)
