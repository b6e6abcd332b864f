"""What `GET /` says."""

from __future__ import annotations

_BODY = b"""<!doctype html><title>SanFran</title>
<p>This is SanFran. Functions answer at <code>/fn/&lt;name&gt;</code>.</p>
"""
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n"
    % len(_BODY)
)


def landing(connection: bytes, *, head_only: bool) -> bytes:
    """The answer.

    Args:
        connection: a Connection header line, or nothing.
        head_only: for HEAD requests.
    """
    return b"%b%b\r\n%b" % (_HEAD, connection, b"" if head_only else _BODY)
