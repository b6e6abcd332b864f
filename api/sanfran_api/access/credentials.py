"""The `Authorization` header, taken apart (RFC 9110, 11.4; RFC 7617; RFC 6750)."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

MAX_BYTES = 16 * 1024
"""Of a header; tokens with many groups have a few thousand."""
MAX_PASSWORD = 1024
MAX_USER = 256
"""Characters."""
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


class BadCredentials(ValueError):
    """The header has no such form; says what would work."""


@dataclass(frozen=True, slots=True)
class Password:
    """A user's name and password. The password stays out of `repr`, and so out of logs."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token."""

    text: str = field(repr=False)


def parse_authorization(header: str) -> Password | Token | None:
    """Reads a header's value.

    Returns:
        None when it is empty.

    Raises:
        BadCredentials: it is of no known form.
    """
    if not header.strip():
        return None
    if len(header) > MAX_BYTES:
        raise BadCredentials(f"more than {MAX_BYTES} bytes")
    scheme, _, rest = header.strip().partition(" ")
    given = rest.strip(" ")
    match scheme.lower():
        case "basic":
            return _password(given)
        case "bearer":
            if _TOKEN68.fullmatch(given) is None:
                raise BadCredentials("the bearer token is none")
            return Token(given)
    raise BadCredentials("neither Basic nor Bearer")


def _password(given: str) -> Password:
    if _TOKEN68.fullmatch(given) is None:
        raise BadCredentials("what follows Basic is not base64")
    try:
        user, colon, password = base64.b64decode(given, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise BadCredentials("what follows Basic is not base64 of UTF-8") from None
    if not colon or not user:
        raise BadCredentials("what follows Basic is not user:password")
    if len(password) > MAX_PASSWORD or len(user) > MAX_USER:
        raise BadCredentials(f"more than {MAX_USER} characters of user, {MAX_PASSWORD} of password")
    if not (user + password).isprintable():
        raise BadCredentials("control characters in user or password")
    return Password(user, password)
