"""Messages as gRPC frames them: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from grpclib import GRPCError, Status

_PREFIX = struct.Struct(">BL")
"""Whether it is compressed, and its size in bytes."""


def wrap(message: bytes) -> bytes:
    """A message as it is sent."""
    return _PREFIX.pack(0, len(message)) + message


def unwrap(parts: Sequence[bytes]) -> bytes:
    """The one message of a call.

    Args:
        parts: all that was sent.

    Raises:
        GRPCError: it is none, or is compressed, or there are more.
    """
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(data) < _PREFIX.size:
        raise GRPCError(Status.INTERNAL, "the call has no message")
    compressed, size = _PREFIX.unpack_from(data)
    if compressed:
        raise GRPCError(Status.UNIMPLEMENTED, "the message is compressed")
    if len(data) != _PREFIX.size + size:
        raise GRPCError(Status.INTERNAL, f"a message of {size} bytes came as {len(data)}")
    return data[_PREFIX.size :]
