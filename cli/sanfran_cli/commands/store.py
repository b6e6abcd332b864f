"""secrets."""

from __future__ import annotations

import asyncio

import click

from sanfran_cli import output as show
from sanfran_cli.client import Client, Server
from sanfran_cli.commands.options import API, OUTPUT


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
