"""Groups, their privileges on functions by name, and the file that says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from typing import Any

import yaml

from sanfran_api.access.errors import Forbidden
from sanfran_api.access.privileges import ALL, EVERYTHING, Privilege, privileges_named
from sanfran_api.names import shorten

ADMIN = "admin"
"""The group that may do everything, whatever the access file says: nobody locks everybody out."""
GROUP = re.compile(r"[^\s:,*][^\s:,]{0,127}")
_PATTERN = re.compile(r"[a-z0-9*?\[\]!-]{1,200}")


class BadRules(ValueError):
    """The access file is wrong; names the field, its value and what would work."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Privileges on the functions whose names match one of the patterns."""

    privileges: frozenset[Privilege]
    names: re.Pattern[str]
    everywhere: bool
    """On all functions."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What each group may do, and users that have groups here.

    Args:
        groups: grants of each.
        users: further groups of users, by name.
    """

    groups: Mapping[str, tuple[Grant, ...]]
    users: Mapping[str, frozenset[str]]

    def caller(self, user: str, groups: Iterable[str]) -> Caller:
        """Somebody who has proved to be this user.

        Args:
            groups: that the users file or the token gives.
        """
        mine = frozenset(groups) | self.users.get(user, frozenset())
        grants = [grant for group in sorted(mine) for grant in self.groups.get(group, ())]
        return Caller(user, mine, tuple(grants))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what they may do.

    Args:
        name: empty: nobody was asked.
    """

    name: str
    groups: frozenset[str]
    grants: tuple[Grant, ...]

    def may(self, privilege: Privilege, function: str) -> bool:
        """Whether they have the privilege on the function, which need not exist."""
        return any(
            privilege in grant.privileges
            and (grant.everywhere or grant.names.fullmatch(function) is not None)
            for grant in self.grants
        )

    def may_somewhere(self, privilege: Privilege) -> bool:
        """Whether they have it on any name at all."""
        return any(privilege in grant.privileges for grant in self.grants)

    def may_everywhere(self, privilege: Privilege) -> bool:
        """Whether they have it on every name."""
        return any(privilege in grant.privileges and grant.everywhere for grant in self.grants)

    def check(self, privilege: Privilege, function: str) -> None:
        """As `may`, for who must.

        Raises:
            Forbidden: they may not.
        """
        if not self.may(privilege, function):
            raise Forbidden(f"{self._who} lacks {privilege} on {shorten(function)!r}")

    def check_somewhere(self, privilege: Privilege) -> None:
        """Raises `Forbidden` when they have it on no name."""
        if not self.may_somewhere(privilege):
            raise Forbidden(f"{self._who} lacks {privilege}")

    def check_everything(self) -> None:
        """Raises `Forbidden` unless they have every privilege on every function."""
        lacking = sorted(one for one in Privilege if not self.may_everywhere(one))
        if lacking:
            raise Forbidden(f"{self._who} lacks {lacking[0]} on all functions")

    @property
    def _who(self) -> str:
        return f"{shorten(self.name)!r}"


def _grant(privileges: Iterable[Privilege], patterns: Iterable[str]) -> Grant:
    patterns = list(patterns)
    names = re.compile("|".join(f"(?:{translate(one)})" for one in patterns))
    return Grant(frozenset(privileges), names, EVERYTHING in patterns)


_EVERYTHING = _grant(ALL, [EVERYTHING])
NOBODY_ASKED = Caller("", frozenset(), (_EVERYTHING,))
"""Everyone, where nobody is asked who they are."""

BUILT_IN = Rules(
    {
        ADMIN: (_EVERYTHING,),
        "developer": (_grant(ALL - {Privilege.DELETE}, [EVERYTHING]),),
        "viewer": (_grant({Privilege.LIST, Privilege.LOGS}, [EVERYTHING]),),
        "invoker": (_grant({Privilege.INVOKE}, [EVERYTHING]),),
    },
    {},
)
"""Without an access file."""


def parse_rules(content: bytes) -> Rules:
    """Reads an access file, YAML or JSON.

    Raises:
        BadRules: it is wrong.
    """
    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadRules(f"not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise BadRules("not YAML that makes sense: too deep") from None
    top = _mapping(document, "the file", ("groups", "users"), "groups: {shop: [...]}")
    groups: dict[str, tuple[Grant, ...]] = {ADMIN: (_EVERYTHING,)}
    for group, grants in _names(top.get("groups") or {}, "groups").items():
        where = f"groups.{group}"
        if group == ADMIN:
            raise BadRules(f"{where}: is built in and may do everything; another name works")
        if not isinstance(grants, list):
            raise BadRules(f"{where}: {_shown(grants)} is no list; try - privileges: [functions:*]")
        groups[group] = tuple(_read(one, f"{where}[{i}]") for i, one in enumerate(grants))
    users = {
        user: frozenset(_texts(given, f"users.{user}", "[admin]"))
        for user, given in _names(top.get("users") or {}, "users").items()
    }
    for user, given in users.items():
        for unknown in sorted(given - groups.keys()):
            known = ", ".join(sorted(groups))
            raise BadRules(f"users.{user}: {_shown(unknown)} is no group here; try {known}")
    return Rules(groups, users)


def _read(grant: Any, where: str) -> Grant:
    fields = _mapping(grant, where, ("privileges", "functions"), "privileges: [functions:list]")
    privileges: set[Privilege] = set()
    for text in _texts(fields.get("privileges"), f"{where}.privileges", "[functions:list]"):
        found = privileges_named(text)
        if not found:
            known = ", ".join(Privilege)
            raise BadRules(f"{where}.privileges: {_shown(text)} is none; try {known}, or *")
        privileges |= found
    patterns = _texts(fields.get("functions", [EVERYTHING]), f"{where}.functions", '["shop-*"]')
    for pattern in patterns:
        if _PATTERN.fullmatch(pattern) is None:
            raise BadRules(f"{where}.functions: {_shown(pattern)} matches no name; try shop-*")
    return _grant(privileges, patterns)


def _mapping(given: Any, where: str, known: tuple[str, ...], example: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise BadRules(f"{where}: {_shown(given)} is no mapping; try {example}")
    for key in given:
        if key not in known:
            raise BadRules(f"{where}: {_shown(key)} is no field; try {' or '.join(known)}")
    return given


def _names(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise BadRules(f"{where}: {_shown(given)} is no mapping of names")
    for key in given:
        if not isinstance(key, str) or (where == "groups" and GROUP.fullmatch(key) is None):
            raise BadRules(f"{where}: {_shown(key)} is no name; try shop")
    return given


def _texts(given: Any, where: str, example: str) -> list[str]:
    if not isinstance(given, list) or not given or not all(isinstance(x, str) for x in given):
        raise BadRules(f"{where}: {_shown(given)} is no list of texts; try {example}")
    return given


def _shown(value: object) -> str:
    return shorten(repr(value))
