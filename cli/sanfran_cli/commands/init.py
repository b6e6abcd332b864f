"""init: a first project."""

from __future__ import annotations

from pathlib import Path

import click

from sanfran_cli.errors import Refused
from sanfran_cli.project.file import NAME

TEMPLATES = Path(__file__).parent.parent / "project/templates"
KINDS = {
    "js": "one handler in JavaScript",
    "ts": "one handler in TypeScript",
    "express": "an Express app, with its packages",
    "multi": "two functions that share settings",
}
"""Each template, and what it is."""
PLACE = "@name@"
"""Stands for the project's name in a template."""


@click.command("init")
@click.argument("name")
@click.option(
    "--template",
    type=click.Choice(list(KINDS)),
    default="js",
    show_default=True,
    help="; ".join(f"{kind}: {what}" for kind, what in KINDS.items()) + ".",
)
def init_command(name: str, template: str) -> None:
    """Write a first project into a new folder NAME.

    It has a handler, sanfran.yaml for `sanfran deploy`, and a README.
    """
    write_project(Path(name), template)
    click.echo(f"{name}/ is there. Next:")
    click.echo(f"  cd {name} && sanfran deploy")


def write_project(folder: Path, template: str) -> None:
    """Writes a template into a folder, whose name the function gets.

    Raises:
        Refused: its name is none for a function, or there is something already.
    """
    if not NAME.fullmatch(folder.name) or len(folder.name) > MAX_NAME:
        raise Refused(
            f"{folder.name!r} is no name for a function; a-z, 0-9 and - inside work, "
            f"at most {MAX_NAME} characters"
        )
    source = TEMPLATES / template
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Refused(f"{folder} is there already; choose another name, or an empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(source.rglob("*")):
            target = folder / path.relative_to(source)
            if path.is_dir():
                target.mkdir()
            else:
                text = path.read_text("utf-8").replace(PLACE, folder.name)
                with target.open("x", encoding="utf-8") as file:
                    file.write(text)
    except OSError as error:
        raise Refused(f"{error.filename or folder}: {error.strerror or error}") from error


MAX_NAME = 63 - len("-report")
"""Characters, so that every name that a template makes of it is one for a function."""
