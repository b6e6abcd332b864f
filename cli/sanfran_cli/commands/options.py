"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sanfran_cli.client import DEFAULT_API, Server
from sanfran_cli.secrets import gather_secrets
from sanfran_cli.servers import find_server
from sanfran_cli.settings import Settings, gather, parse_size

F = TypeVar("F", bound=Callable[..., Any])

NAME = click.argument("name", callback=lambda _ctx, _parameter, value: _name(value))

API = click.option(
    "--server",
    "--api",
    "api",
    envvar=["SANFRAN_SERVER", "SANFRAN_API"],
    show_envvar=True,
    metavar="NAME|URL",
    callback=lambda _ctx, _parameter, value: _server(value),
    help="The api service, by the name of a login or by its URL. [default: the one that you logged in to "
    f"last, else {DEFAULT_API}]",
)
"""Arrives as a `Server`."""

OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people or for programs.",
)

YES = click.option("-y", "--yes", is_flag=True, help="Do not ask first.")

_SETTINGS = (
    click.option("--env", multiple=True, metavar="K=V", help="A variable; may be repeated."),
    click.option(
        "--env-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A file of variables, one K=V a line; --env wins over it.",
    ),
    click.option(
        "--secret",
        multiple=True,
        metavar="NAME=VALUE",
        help="A variable that is stored encrypted and never shown; NAME=@FILE and NAME=- (standard "
        "input) keep it off the command line; NAME- removes it; may be repeated.",
    ),
    click.option("--timeout", type=float, metavar="SECONDS", help="One request, at most."),
    click.option("--concurrency", type=int, help="Requests that one pod runs at once."),
    click.option("--min-scale", type=int, help="Pods that stay active without traffic."),
    click.option("--max-scale", type=int, help="Pods at most; 0: only the engine's own limit."),
    click.option(
        "--idle-timeout",
        type=float,
        metavar="SECONDS",
        help="Without traffic, until a pod is recycled; 0: the engine's own.",
    ),
    click.option(
        "--memory", type=int, metavar="MB", help="Of a pod's process; one that has more is ended."
    ),
    click.option(
        "--label", multiple=True, metavar="K=V", help="To find it by; may be repeated; K- removes."
    ),
    click.option(
        "--body-limit",
        metavar="BYTES",
        callback=lambda _ctx, _parameter, value: _size(value),
        help="Of a request's body, such as 64k or 10m; 0: the router's own limit.",
    ),
    click.option(
        "--invoke",
        type=click.Choice(["public", "private"]),
        help="Who may call it: anybody, or those who have the privilege to.",
    ),
)


def confirm(question: str) -> None:
    """Goes on only after a yes, typed.

    Raises:
        click.Abort: no.
        KeyboardInterrupt: left with Ctrl-C or Ctrl-D.
    """
    try:
        answer = click.confirm(question, err=True)
    except click.Abort:
        raise KeyboardInterrupt from None
    if not answer:
        raise click.Abort


def settings_options(command: F) -> F:
    """Adds the options of a function's settings; they arrive as keywords for `chosen_settings`."""
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


def chosen_settings(
    env: tuple[str, ...],
    env_file: Path | None,
    secret: tuple[str, ...],
    label: tuple[str, ...],
    **others: float | int | str | None,
) -> Settings:
    """The settings that were given."""
    try:
        settings = gather(env=env, env_file=env_file, label=label, others=others)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        secrets = gather_secrets(secret)
    except ValueError as error:
        raise click.UsageError(f"--secret: {error}") from None
    return {**settings, "secrets": secrets} if secrets else settings


def _name(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(f"{value!r} is not UTF-8; a-z, 0-9 and - work") from None
    return value


def _size(value: str | None) -> int | None:
    try:
        return None if value is None else parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _server(value: str | None) -> Server:
    try:
        return find_server(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
