"""Labels of functions, as Kubernetes has them: what may be one, and which functions have it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sanfran_api.errors import BadRequest
from sanfran_api.names import shorten

MAX_LABELS = 64
MAX_NAME = 63
MAX_PREFIX = 253
_WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_PREFIX = re.compile(
    r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.ASCII
)


def label_problem(key: str, value: str) -> str | None:
    """What is wrong with a label, and what would work; None: nothing."""
    shown = repr(shorten(key))
    prefix, slash, name = key.rpartition("/")
    if len(name) > MAX_NAME or not _WORD.fullmatch(name):
        return (
            f"{shown} is no label: letters, digits, -, _ and . work, at most {MAX_NAME} with a letter "
            "or digit at both ends, such as team or example.com/team"
        )
    if slash and (len(prefix) > MAX_PREFIX or not _PREFIX.fullmatch(prefix)):
        return f"the prefix of {shown} is no DNS name; example.com/team works"
    if value and (len(value) > MAX_NAME or not _WORD.fullmatch(value)):
        return (
            f"{shorten(value)!r} is no value of {shown}: letters, digits, -, _ and . work, at most "
            f"{MAX_NAME} with a letter or digit at both ends, such as payments"
        )
    return None


@dataclass(frozen=True, slots=True)
class Selector:
    """Which labels a function must have.

    Args:
        wanted: value by key; None: any value.
    """

    wanted: Mapping[str, str | None]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether all are there."""
        return all(
            key in labels and (value is None or labels[key] == value)
            for key, value in self.wanted.items()
        )


EVERY = Selector({})
"""Matches whatever labels there are."""


def parse_selector(terms: Iterable[str]) -> Selector:
    """Reads `key=value`, or `key` for any value; all of them must match.

    Raises:
        BadRequest: a term is no such thing, or two contradict one another.
    """
    wanted: dict[str, str | None] = {}
    for term in terms:
        key, equals, value = term.partition("=")
        if problem := label_problem(key, value):
            raise BadRequest(f"label: {problem}", field="label")
        asked = value if equals else wanted.get(key)
        if wanted.get(key, asked) not in (asked, None):
            raise BadRequest(
                f"label: {shorten(key)!r} is asked for with two values; no function has both",
                field="label",
            )
        wanted[key] = asked
    return Selector(wanted)
