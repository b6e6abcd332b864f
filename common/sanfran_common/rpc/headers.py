"""HPACK (RFC 7541) for peers that say the same in each call.

Headers are written without the table of earlier headers, which makes their bytes the same each time:
so what was written and what was read is kept. Whatever another peer writes is read as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from h2.exceptions import ProtocolError
from hpack import Decoder, HPACKError

Headers = Sequence[tuple[str, str]]

HEAD_MOST = 64 << 10
"""Bytes of a call's headers."""
TABLE = 4096
"""Bytes of HPACK's table before either end has said anything."""
KEPT, KEPT_BYTES = 512, 2048
"""Header blocks that are kept, and the size of those."""
STATIC = {(":method", "POST"): b"\x83", (":scheme", "http"): b"\x86", (":status", "200"): b"\x88"}
"""RFC 7541, appendix A: what is one byte for everybody."""

_written: dict[tuple[tuple[str, str], ...], bytes] = {}
_read: dict[bytes, Headers] = {}


def write_headers(headers: Headers) -> bytes:
    """The header block of a message."""
    key = tuple(headers)
    block = _written.get(key)
    if block is None:
        block = b"".join([STATIC.get(one) or _literal(*one) for one in key])
        _keep(_written, key, block, len(block))
    return block


def _literal(name: str, value: str) -> bytes:
    """RFC 7541, 6.2.2 and 6.2.3: for nobody's table; a secret for no proxy's either."""
    first = b"\x10" if name == "authorization" else b"\x00"
    return first + _text(name.encode("ascii")) + _text(value.encode("ascii"))


def _text(data: bytes) -> bytes:
    """RFC 7541, 5.2, not Huffman coded: shorter to write, and the peer is near."""
    size = len(data)
    if size < 127:
        return bytes((size,)) + data
    prefix, size = b"\x7f", size - 127
    while size > 127:
        prefix += bytes((size & 127 | 128,))
        size >>= 7
    return prefix + bytes((size,)) + data


def read_headers(decoder: Decoder, block: bytes) -> Headers:
    """What a header block says.

    Args:
        decoder: with the table of its connection.

    Raises:
        ProtocolError: it is none, or is too long.
    """
    table = decoder.header_table.dynamic_entries
    known = _read.get(block)
    if known is not None and not table:
        return known
    alone = not table and block[:1] and block[0] & 0xE0 != 0x20
    try:
        found = [(str(n, "ascii"), str(v, "ascii")) for n, v in decoder.decode(block, raw=True)]
    except (HPACKError, UnicodeDecodeError) as error:
        raise ProtocolError(f"headers that cannot be read: {error}") from error
    if alone and not table:  # it says the same after whatever came before
        _keep(_read, block, found, len(block))
    return found


def _keep(kept: dict[Any, Any], key: Any, value: Any, size: int) -> None:
    if size <= KEPT_BYTES:
        if len(kept) >= KEPT:
            kept.clear()
        kept[key] = value
