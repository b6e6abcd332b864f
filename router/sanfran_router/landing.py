"""What `GET /` says."""

from __future__ import annotations

from typing import Final

_BODY = b"""<!doctype html><title>SanFran</title>
<p>This is SanFran. Functions answer at <code>/fn/&lt;name&gt;</code>.</p>
"""
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n"
    % len(_BODY)
)


class Landing:
    """An answer of the router's own, as a `Problem` is one."""

    status = 200
    close = False

    def render(self, request_id: bytes, connection: bytes, *, head_only: bool = False) -> bytes:
        """See `Problem.render`."""
        return b"%b%b\r\n%b" % (_HEAD, connection, b"" if head_only else _BODY)


LANDING: Final = Landing()
