"""Structured logs on stderr, one line each: JSON for machines, columns for people."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO, cast

import structlog


class _Unbreakable:
    """stderr, for loggers: a reader that has gone must not stop what was only to be told."""

    def write(self, text: str) -> int:
        try:
            return sys.stderr.write(text)
        except (OSError, ValueError):
            return 0

    def flush(self) -> None:
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            pass


_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def get_logger(name: str) -> Any:
    """A logger whose methods take an event and fields: `log.info("pod ready", pod=name)`.

    Args:
        name: the part that speaks, shown as `part`.
    """
    return structlog.get_logger(part=name)


def configure_logs(log_format: str, level: str, *, service: str) -> None:
    """Sets up the process's logs once, those of libraries (stdlib logging) included.

    Args:
        log_format: json or console.
        level: debug, info, warning or error; quieter lines are dropped before they are made.
        service: shown in every line.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor
    if log_format == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=plain
        )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(file=cast("TextIO", _Unbreakable())),
        # Loggers are made at import, before this call: caching would freeze the defaults.
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(_Unbreakable())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=renderer)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries speak up only when something is wrong, whatever our own level.
    root.setLevel(max(_LEVELS[level], logging.WARNING))
