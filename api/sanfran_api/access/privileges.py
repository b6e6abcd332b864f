"""What there is to be allowed."""

from __future__ import annotations

from enum import StrEnum


class Privilege(StrEnum):
    """Each is given for functions by name; docs/auth.md says what it guards."""

    LIST = "functions:list"
    CREATE = "functions:create"
    UPDATE = "functions:update"
    DELETE = "functions:delete"
    INVOKE = "functions:invoke"
    LOGS = "functions:logs"
    VIEW_SETTINGS = "settings:view"
    UPDATE_SETTINGS = "settings:update"


ALL = frozenset(Privilege)
EVERYTHING = "*"
"""In an access file: all privileges, or all functions."""


def privileges_named(pattern: str) -> frozenset[Privilege]:
    """One by its name, `functions:*`, `settings:*`, or `*`; none when there is no such thing."""
    if pattern == EVERYTHING:
        return ALL
    kind, _, which = pattern.partition(":")
    if which == EVERYTHING:
        return frozenset(one for one in ALL if one.startswith(f"{kind}:"))
    return frozenset(one for one in ALL if one == pattern)
