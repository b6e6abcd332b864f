"""A service's log: all of it in a file of bounded size, what matters on the terminal."""

from __future__ import annotations

import json
import logging
import logging.handlers
from collections import deque
from pathlib import Path

import click

from sanfran_cli.up.terminal import warn

FILE_BYTES = 5 * 1024 * 1024
OLD_FILES = 2
LAST_LINES = 20
_COLOURS = {"warning": "yellow", "error": "red", "critical": "red"}
_OWN_FIELDS = frozenset({"event", "level", "timestamp", "service", "part", "exception"})


class ServiceLog:
    """Takes one service's output.

    Args:
        name: of the service.
        folder: for its file, `<name>.log`.
        verbose: everything goes to the terminal, not only warnings and errors.

    Attributes:
        starting: nothing goes to the terminal yet: services that wait for one another say so, and
            when a start fails its last lines are told anyway.
    """

    def __init__(self, name: str, folder: Path, *, verbose: bool = False) -> None:
        self.name = name
        self.path = folder / f"{name}.log"
        self.starting = True
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self._verbose = verbose
        self._file = _QuietFile(
            self.path, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8"
        )

    def take(self, line: str) -> None:
        """One line of what the service wrote: JSON of its logger, or anything (a traceback)."""
        self._write(line)
        level, text = readable(line)
        self.last.append(text)
        if self._verbose or (level not in ("debug", "info") and not self.starting):
            shown = text if self._verbose else self._brief(text)
            warn(f"{click.style(f'{self.name:<10}', dim=True)}  {_styled(level, shown)}")

    def note(self, level: str, text: str) -> None:
        """What the engine has to say about the service."""
        self.take(json.dumps({"event": text, "level": level, "service": "up"}))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _brief(self, text: str) -> str:
        """A stack's first and last line; all of it stands in the file."""
        first, *rest = text.splitlines() or [""]
        return f"{first}\n    {rest[-1].strip()}  (all of it: {self.path})" if rest else first

    def _write(self, line: str) -> None:
        self._file.emit(logging.makeLogRecord({"msg": "%s", "args": (line,)}))


def readable(line: str) -> tuple[str, str]:
    """A log line's level, and its text for people; a line that no logger made is an error's."""
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        return "error", line
    if "event" not in entry:  # the router's access log
        return "info", line
    fields = [f"{key}={value}" for key, value in entry.items() if key not in _OWN_FIELDS]
    text = "  ".join([str(entry["event"]), *fields])
    if trace := entry.get("exception"):
        text += f"\n{trace}"
    return str(entry.get("level", "info")), text


def _styled(level: str, text: str) -> str:
    return click.style(text, fg=_COLOURS.get(level))


class _QuietFile(logging.handlers.RotatingFileHandler):
    """A full disk costs log lines, and nothing else."""

    def handleError(self, record: logging.LogRecord) -> None:  # logging's name
        """Drops the line."""
