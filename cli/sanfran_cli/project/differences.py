"""What separates a function from what a file wants of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SECRETS = "secrets"


@dataclass(frozen=True, slots=True)
class Differences:
    """What has to change.

    Args:
        settings: to be sent; None brings back a default.
        words: for people, one for each thing; no value of a variable or secret.
        checked_by_service: it has secrets, whose present values only the service knows.
    """

    settings: dict[str, Any]
    words: list[str]
    checked_by_service: bool


def differences(
    now: Mapping[str, Any], wanted: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Differences:
    """Compares settings.

    Args:
        now: as the service shows them; of secrets the names.
        wanted: those that the file names; the others shall have their defaults.
        defaults: of the service.
    """
    settings: dict[str, Any] = {}
    words: list[str] = []
    for field, default in defaults.items():
        if field == SECRETS:
            continue
        former, value = now.get(field, default), wanted.get(field, default)
        if former == value:
            continue
        settings[field] = wanted.get(field)
        if isinstance(value, dict) and isinstance(former, dict):
            words += _of_names(field, former, value)
        else:
            words.append(f"{field} {_shown(former)} → {_shown(value)}")
    for field in wanted.keys() - defaults.keys() - {SECRETS}:
        settings[field] = wanted[field]  # the service's to refuse, or newer than what it says
        words.append(f"{field} set")
    secrets: Mapping[str, str] = wanted.get(SECRETS) or {}
    names = set(now.get(SECRETS) or ())
    gone = sorted(names - secrets.keys())
    words += [f"{SECRETS}.{name} added" for name in sorted(secrets.keys() - names)]
    words += [f"{SECRETS}.{name} removed" for name in gone]
    if secrets or gone:
        settings[SECRETS] = {**secrets, **dict.fromkeys(gone)}
    return Differences(settings, words, bool(secrets))


def _of_names(field: str, former: Mapping[str, Any], value: Mapping[str, Any]) -> list[str]:
    words = []
    for name in sorted(former.keys() | value.keys()):
        if name not in value:
            words.append(f"{field}.{name} removed")
        elif name not in former:
            words.append(f"{field}.{name} added")
        elif former[name] != value[name]:
            words.append(f"{field}.{name} changed")
    return words


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
