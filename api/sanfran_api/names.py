"""Function names: DNS-1123 labels, so that a name can be a Kubernetes label and a path segment."""

from __future__ import annotations

import re

from sanfran_api.errors import BadRequest

MAX_NAME = 63
"""Characters; RFC 1123 section 2.1 with the label limit of RFC 1035 section 2.3.4."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def is_name(text: str) -> bool:
    """Whether a function can have this name."""
    return _LABEL.fullmatch(text) is not None


def check_name(text: str) -> str:
    """Returns the name as it is.

    Raises:
        BadRequest: no function can have it; says why and what would work.
    """
    if is_name(text):
        return text
    if not text:
        problem = "is missing"
    elif len(text) > MAX_NAME:
        problem = f"{shorten(text)!r} has {len(text)} characters, {MAX_NAME} are allowed"
    else:
        problem = f"{text!r} is no function name"
    raise BadRequest(
        f"name: {problem}; a-z, 0-9 and - inside work, such as {suggest(text)!r}", field="name"
    )


def suggest(text: str) -> str:
    """A name that works and looks like the text."""
    tidy = re.sub(r"[^a-z0-9]+", "-", text[:MAX_NAME].lower()).strip("-")
    return tidy or "hello"


def shorten(text: str, limit: int = 80) -> str:
    """The text, or its beginning with an ellipsis, for messages that quote what a client sent."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
