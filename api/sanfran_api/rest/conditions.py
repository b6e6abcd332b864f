"""Conditional requests (RFC 9110, section 13): a function's version is its entity tag.

What becomes of a function from moment to moment (`status`) is not part of what the tag stands for: a 304 says that there
is no newer version.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Header

from sanfran_api.errors import BadRequest
from sanfran_api.names import shorten

IfMatch = Annotated[str | None, Header(description='Only if this is its version, such as "3".')]
IfNoneMatch = Annotated[
    str | None, Header(description="304 if it is still at one of these, as ETag named them.")
]

ETAG: dict[str, Any] = {
    "ETag": {
        "description": "The version, for If-Match and If-None-Match.",
        "schema": {"type": "string", "examples": ['"3"']},
    }
}
"""A header, as an operation describes it."""
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "It is still at the version of If-None-Match.", "headers": ETAG}
}

_TAG = re.compile(r'(?:W/)?("[^"]*")')


def etag_of(version: int) -> str:
    """The entity tag."""
    return f'"{version}"'


def is_known(version: int, if_none_match: str | None) -> bool:
    """Whether a client that has what `If-None-Match` names has this version.

    Args:
        if_none_match: tags, compared weakly as the RFC has it, or `*`; what is neither counts as nothing.
    """
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag_of(version) in _TAG.findall(if_none_match)


def version_in(if_match: str | None) -> int | None:
    """The version that `If-Match` names; None for any.

    Raises:
        BadRequest: it is no version.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    found = re.fullmatch(r'\s*"?([0-9]{1,18})"?\s*', if_match, re.ASCII)
    if found is None:
        raise BadRequest(
            f'If-Match: {shorten(if_match)!r} is no version; try "3", as `version` shows it',
            field="If-Match",
        )
    return int(found[1])
