"""HTTP/2's frames (RFC 9113): their numbers, and what `http2` tells of those that came."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from sanfran_common.rpc.headers import Headers

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
(
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION,
) = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, PRIORITIZED = 0x4, 0x8, 0x20

DEFAULT_WINDOW = 65_535
WINDOW = 4 << 20
"""Bytes that a peer may send before we have read any, of a stream and of a connection."""
WINDOW_MOST = (1 << 31) - 1
FRAME = 16_384
"""Bytes of a frame, at most, that may be sent to us: the default."""
STREAMS = 1000
"""Calls on one connection at a time, at most, that a server takes."""
ID_MOST = (1 << 31) - 1

HEAD = struct.Struct(">HBBBL")
SETTING = struct.Struct(">HL")
NUMBER = struct.Struct(">L")


def without_padding(payload: bytes) -> bytes:
    """What a padded frame carries (section 6.1).

    Raises:
        ProtocolError: more padding than frame.
    """
    if not payload or payload[0] >= len(payload):
        raise ProtocolError("more padding than there is")
    return payload[1 : len(payload) - payload[0]]


@dataclass(slots=True)
class Begun:
    """A call has come, its answer, or its trailers; grpclib looks at events' attributes by h2's names."""

    stream_id: int
    headers: Headers


class Answered(Begun):
    """The first headers of an answer."""

    __slots__ = ()


class Trailed(Begun):
    """The last headers."""

    __slots__ = ()


@dataclass(slots=True)
class Received:
    """A part of a message; the length counts for the windows."""

    stream_id: int
    data: bytes
    flow_controlled_length: int


@dataclass(slots=True)
class Ended:
    """The peer sends no more of this call."""

    stream_id: int


@dataclass(slots=True)
class Reset:
    """The peer ended a call at once."""

    stream_id: int
    error_code: int
    remote_reset: bool = True


@dataclass(slots=True)
class Widened:
    """More may be sent, of one stream; 0: of all."""

    stream_id: int


@dataclass(slots=True)
class Resized:
    """The first window of streams was changed."""

    changed_settings: tuple[SettingCodes, ...] = (SettingCodes.INITIAL_WINDOW_SIZE,)


@dataclass(slots=True)
class Ponged:
    """The answer to a ping."""


@dataclass(slots=True)
class Farewell:
    """The peer ends the connection."""

    error_code: int


Event = Begun | Received | Ended | Reset | Widened | Resized | Ponged | Farewell
