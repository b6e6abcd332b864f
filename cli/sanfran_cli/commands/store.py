"""secrets, backup and restore."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from sanfran_cli import output as show
from sanfran_cli.client import Client, Restored, Server
from sanfran_cli.commands.options import API, OUTPUT, YES, confirm
from sanfran_cli.sending import progress


@click.group("secrets")
def secrets_command() -> None:
    """What concerns the secrets of all functions."""


@secrets_command.command("rotate")
@API
@OUTPUT
def rotate_command(api: Server, output: str) -> None:
    """Encrypt all stored secrets with the first key of the service's file of keys.

    Put a new key before the others in that file (--secrets-key-file of sanfran-api) first; a
    service that made its key itself makes a new one. Interrupted, it can be repeated.
    """

    async def rotate() -> None:
        async with Client(api) as client:
            done = await client.rotate_secrets()
            if output == "json":
                show.print_json(done)
            else:
                click.echo(
                    f"{done['rotated']} secrets are encrypted anew, all with key {done['key']}"
                )

    asyncio.run(rotate())


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@API
@OUTPUT
def backup_command(file: Path, api: Server, output: str) -> None:
    """Write everything that the service keeps to FILE, as it is now, while it serves.

    Secrets stay encrypted in it: keep the service's key for them, elsewhere.
    """

    async def backup() -> int:
        async with Client(api) as client:
            return await client.backup(file)

    size = asyncio.run(backup())
    if output == "json":
        show.print_json({"file": str(file), "bytes": size})
    else:
        click.echo(f"{file} has everything, {size} bytes")


@click.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@YES
@API
@OUTPUT
def restore_command(file: Path, yes: bool, api: Server, output: str) -> None:
    """Put what the backup FILE has in the place of all that the service keeps.

    Functions that differ get a new version, those that are not in it are gone. A file that was cut off or
    altered is refused, and nothing changes.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("this replaces every function; -y says that you mean it")
        confirm(f"Replace every function at {api} by those in {file}?")

    async def restore() -> Restored:
        async with Client(api) as client:
            with progress("Sending", file.stat().st_size) as sent:
                return await client.restore(file, sent=sent)

    done = asyncio.run(restore())
    if output == "json":
        show.print_json(done)
    else:
        click.echo(f"{done['functions']} functions are there as {file} has them")
        if not done["applied"]:
            click.echo("Not every controller knows it yet; it will follow in a moment.", err=True)
