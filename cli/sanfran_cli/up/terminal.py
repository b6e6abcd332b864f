"""What the engine tells its user. The terminal or pipe may be gone: that must not stop the engine."""

from __future__ import annotations

import os
import sys
from typing import TextIO

import click


def tell(text: str) -> None:
    """A line to standard output, at once."""
    _write(text, sys.stdout)


def warn(text: str) -> None:
    """A line to standard error."""
    _write(text, sys.stderr)


def _write(text: str, stream: TextIO) -> None:
    try:
        click.echo(text, file=stream)
    except OSError:
        # What Python flushes at its end must not fail either.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
