"""Secrets as people give them: on the command line, in files, or typed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from sanfran_cli.errors import Refused
from sanfran_cli.settings import check_variable


def gather_secrets(given: Iterable[str]) -> dict[str, str | None]:
    """Reads `NAME=VALUE`, `NAME=@FILE`, `NAME=-` for standard input, `NAME-` for one to remove (None).

    Raises:
        Refused: a file cannot be read.
        ValueError: one is of no such form; never repeats a value.
    """
    found: dict[str, str | None] = {}
    typed = ""
    for text in given:
        name, equals, value = text.partition("=")
        if not equals and text.endswith("-"):
            found[text[:-1]] = None
            continue
        if not equals:
            raise ValueError(
                "what is given is not NAME=VALUE; NAME=@FILE, NAME=- and, to remove, NAME- work, too"
            )
        check_variable(name)
        if value == "-":
            if typed:
                raise ValueError(f"{typed} and {name} both want standard input; use @FILE for one")
            typed = name
            value = _typed(name)
        elif value.startswith("@"):
            value = _of_file(name, Path(value[1:]))
        if not value:
            raise ValueError(f"{name} is empty; {name}- removes it")
        found[name] = value
    return found


def _typed(name: str) -> str:
    if sys.stdin.isatty():
        asked: str = click.prompt(name, hide_input=True, err=True)
        return asked
    return _text(name, sys.stdin.buffer.read())


def _of_file(name: str, path: Path) -> str:
    try:
        return _text(name, path.read_bytes())
    except OSError as error:
        raise Refused(f"--secret {name}: {path}: {error.strerror}") from None


def _text(name: str, content: bytes) -> str:
    """The value without the end of its last line, which editors and `echo` add."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise Refused(f"--secret {name}: not UTF-8; base64 works for anything") from None
    return text.removesuffix("\n").removesuffix("\r")
