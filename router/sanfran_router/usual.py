"""Heads as nearly all clients and pods send them, recognised in one step.

What matches here is valid HTTP without anything that needs thought, so it may skip the full
parsers: 2 µs instead of 6 per request (bench/router_cpu.py). A match must mean exactly what the
full parser would say, which tests/test_router_heads.py and test_router_answers.py check; what does not match is not wrong.
"""

from __future__ import annotations

import re
import string
import sys

_TOKEN_BYTES = b"!#$%&'*+-.^_`|~" + (string.digits + string.ascii_letters).encode()
_TOKEN = b"[%b]" % re.escape(_TOKEN_BYTES)
_LINES = b"(?:%b)*+" if sys.version_info >= (3, 11, 5) else b"(?>(?:%b)*)"
"""As many lines as there are. Before 3.11.5 a possessive repeat of a group loses matches, and behind a lookahead
may match too much (gh-106052, gh-100061); the other form means the same and costs 0.3 µs."""
_VALUE = rb"(?![ \t])[\t\x20-\x7e\x80-\xff]*+"


def _line(special: bytes, initials: bytes) -> bytes:
    """Any header line but the special ones.

    Args:
        special: an expression for their names.
        initials: the letters that they begin with, to spare the others the look.
    """
    letters = initials.lower() + initials.upper()
    others = re.escape(bytes(byte for byte in _TOKEN_BYTES if byte not in letters))
    return rb"(?:[%b]|(?!(?i:%b))[%b])%b*+: %b\r\n" % (
        others,
        special,
        letters,
        _TOKEN,
        _VALUE,
    )


_REQUEST_LINE = _line(
    rb"(?:connection|content-length|expect|host|http2-settings|keep-alive|proxy-authorization"
    rb"|proxy-connection|te|transfer-encoding|upgrade|x-forwarded-(?:for|host|proto)|x-request-id)"
    rb":|x-sanfran-",
    b"cehkptux",
)
_NAME = rb"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
USUAL_REQUEST = re.compile(
    rb"(GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS) "
    rb"/fn/(%(name)b)(?:[/?][A-Za-z0-9\-._~:/?@!$&'()*+,;=%%\[\]]*+)? HTTP/1\.1\r\n"
    rb"%(lines)b"
    rb"[Hh]ost: ([A-Za-z0-9.\-]+(?::[0-9]{1,5})?)\r\n"
    rb"%(lines)b"
    rb"(?:([Cc]onnection: [Kk]eep-[Aa]live\r\n)%(lines)b)?"
    rb"\r\n" % {b"name": _NAME, b"lines": _LINES % _REQUEST_LINE}
)
"""A request for a function, without a body, on a connection that stays. Groups: method,
function, host, and the Connection line, which is between the client and the router only."""

_ANSWER_LINE = _line(
    rb"(?:connection|content-length|keep-alive|proxy-connection|transfer-encoding|upgrade)"
    rb":|x-sanfran-",
    b"ckptux",
)
USUAL_ANSWER = re.compile(
    rb"HTTP/1\.1 ([23][0-9][0-9]|40[0-9]|50[0-9])(?<!204)(?<!304) [\t\x20-\x7e\x80-\xff]*+\r\n"
    rb"%(lines)b"
    rb"(?:(?:Content-Length|content-length): ([0-9]{1,15})\r\n%(lines)b)?"
    rb"(Connection: keep-alive\r\n(?:Keep-Alive: timeout=[0-9]+\r\n)?)?%(lines)b"
    rb"(?:Content-Length: ([0-9]{1,15})\r\n)?"
    rb"\r\n" % {b"lines": _LINES % _ANSWER_LINE}
)
"""An answer whose length is known, on a connection that stays. Groups: status, length when it comes
before Connection, the Connection lines, length when it comes after. One of the lengths must be
there, and only one."""
