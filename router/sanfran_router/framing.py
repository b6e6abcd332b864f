"""Where heads and bodies end (RFC 9112, sections 2.2, 6 and 7.1), read strictly, in any pieces.

For chunked bodies, both directions use it: requests are framed anew from what it decodes, responses are passed on as
they are while it finds their end. It accepts CRLF only, sizes of at most 15 hex digits, and bounds
what a sender can make it hold.
"""

from __future__ import annotations

import re

MAX_SIZE_LINE = 256
"""Bytes of a chunk's size and extensions; senders use a handful, floods of extensions use more."""
MAX_TRAILERS = 8192
"""Bytes of all trailers."""

_HEAD_END = b"\r\n\r\n"
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_BLANKS = rb"[ \t]*+"
# 15 digits: answers are passed on as they are, and not every client counts beyond 63 bits.
_SIZE = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:%(blanks)b;%(blanks)b%(token)b"
    rb"(?:%(blanks)b=%(blanks)b(?:%(token)b|%(quoted)b))?)*+\r\n"
    % {b"blanks": _BLANKS, b"token": _TOKEN, b"quoted": _QUOTED}
)
_TRAILER = re.compile(rb"(%b):([\t\x20-\x7e\x80-\xff]*)\r\n" % _TOKEN)

_SIZE_LINE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class BadFraming(Exception):
    """The bytes are no head or no body that all parsers would read alike."""


class TooLarge(Exception):
    """The body is longer than its limit."""


def check_lines(raw: bytes) -> None:
    """What makes two parsers see different lines: bare CR, bare LF, NUL, folded lines.

    Args:
        raw: a head, or the part of one that has come so far; a CR at its end may get its LF yet.

    Raises:
        BadFraming: it has one of them.
    """
    ends = raw.count(b"\r\n")
    returns = raw.count(b"\r") - raw.endswith(b"\r")
    if (
        raw.count(b"\n") != ends
        or returns != ends
        or b"\0" in raw
        or b"\r\n " in raw
        or b"\r\n\t" in raw
        or not 65 <= raw[0] <= 90  # methods that llhttp knows are upper case
    ):
        raise BadFraming("lines that parsers read differently")


def head_end(buffer: bytes, start: int) -> int:
    """Where the head in `buffer` ends, its empty line included; -1: not yet.

    Args:
        start: everything before was searched already.
    """
    found = buffer.find(_HEAD_END, max(start - 3, 0))
    return found + 4 if found >= 0 else -1


class ChunkedDecoder:
    """Takes a chunked body in pieces. `done` says that its end was seen."""

    __slots__ = ("_left", "_line", "_state", "done", "trailers")

    def __init__(self) -> None:
        self._state = _SIZE_LINE
        self._left = 0
        self._line = b""
        self.done = False
        self.trailers: list[tuple[bytes, bytes]] = []

    @property
    def pending(self) -> bytes:
        """The part of a line, last in what was fed, whose rest is yet to come."""
        return self._line

    @property
    def announced(self) -> int:
        """Bytes that the chunk at work has yet to bring."""
        return self._left if self._state == _DATA else 0

    def feed(self, data: bytes, payload: list[bytes]) -> int:
        """Decodes.

        Args:
            data: the next bytes of the connection.
            payload: gets the decoded pieces.

        Returns:
            How many bytes belong to this body; less than all only when it is done.

        Raises:
            BadFraming: never to be recovered from.
        """
        at, end = 0, len(data)
        while at < end and self._state != _DONE:
            if self._state == _DATA:
                piece = data[at : at + self._left]
                payload.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _DATA_END
                continue
            newline = data.find(b"\n", at)
            stop = end if newline < 0 else newline + 1
            self._line += data[at:stop]
            at = stop
            self._check_length()
            if newline >= 0:
                line, self._line = self._line, b""
                self._on_line(line)
        return at

    def _check_length(self) -> None:
        if self._state == _TRAILERS:
            limit = self._left
        else:
            limit = MAX_SIZE_LINE if self._state == _SIZE_LINE else 2
        if len(self._line) > limit:
            raise BadFraming("line too long")

    def _on_line(self, line: bytes) -> None:
        if self._state == _DATA_END:
            if line != b"\r\n":
                raise BadFraming("chunk longer than its size")
            self._state = _SIZE_LINE
        elif self._state == _SIZE_LINE:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise BadFraming("bad chunk size")
            self._left = int(match[1], 16)
            self._state = _DATA
            if not self._left:
                self._state = _TRAILERS
                self._left = MAX_TRAILERS
        elif line == b"\r\n":
            self._state = _DONE
            self.done = True
        else:
            match = _TRAILER.fullmatch(line)
            if match is None:
                raise BadFraming("bad trailer")
            self._left -= len(line)
            self.trailers.append((match[1], match[2].strip(b" \t")))


class LengthBody:
    """A request's body whose length is known."""

    __slots__ = ("_left", "_length", "done")

    def __init__(self, length: int) -> None:
        self._length = self._left = length
        self.done = False

    def fits(self, limit: int) -> bool:
        """Whether it is no longer than so many bytes."""
        return self._length <= limit

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What to forward of `data`, and what comes after the body."""
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            return data, b""
        self._left = 0
        self.done = True
        return (data, b"") if len(data) == left else (data[:left], data[left:])


class ChunkedBody:
    """A request's chunked body, framed anew.

    Args:
        limit: bytes of the decoded body; more raise `TooLarge`.
        dropped: trailers that are not passed on, in lower case.
    """

    __slots__ = ("_decoder", "_dropped", "_limit", "_size", "done")

    def __init__(self, limit: int, dropped: frozenset[bytes]) -> None:
        self._decoder = ChunkedDecoder()
        self._limit = limit
        self._size = 0
        self._dropped = dropped
        self.done = False

    def fits(self, limit: int) -> bool:
        """Whether what has come, and the chunk at work, are within so many bytes. From here on its
        limit is that, if it was more."""
        self._limit = min(self._limit, limit)
        return self._size + self._decoder.announced <= self._limit

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What to forward of `data`, and what comes after the body.

        Raises:
            BadFraming: it is no chunked body.
            TooLarge: it is longer than the limit.
        """
        pieces: list[bytes] = []
        decoder = self._decoder
        used = decoder.feed(data, pieces)
        size = sum(map(len, pieces))
        self._size += size
        if self._size + decoder.announced > self._limit:
            raise TooLarge("body longer than the limit")
        if size:
            pieces.insert(0, b"%x\r\n" % size)
            pieces.append(b"\r\n")
        if decoder.done:
            self.done = True
            pieces.append(b"0\r\n")
            for name, value in decoder.trailers:
                if name.lower() not in self._dropped and not name.lower().startswith(b"x-sanfran-"):
                    pieces.append(b"%b: %b\r\n" % (name, value))
            pieces.append(b"\r\n")
        return b"".join(pieces), data[used:]
