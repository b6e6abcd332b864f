"""versions and rollback."""

from __future__ import annotations

import asyncio

import click

from sanfran_cli import output as show
from sanfran_cli.client import Client, Server
from sanfran_cli.commands.options import API, NAME, OUTPUT


@click.command("versions")
@NAME
@API
@OUTPUT
def versions_command(name: str, api: Server, output: str) -> None:
    """Show the versions of the function NAME that are kept, the newest first."""

    async def versions() -> None:
        async with Client(api) as client:
            found = await client.versions(name)
            if output == "json":
                show.print_json(found)
            else:
                show.print_versions(found)

    asyncio.run(versions())


@click.command("rollback")
@NAME
@click.argument("version", required=False, callback=lambda _ctx, _parameter, value: _version(value))
@API
@OUTPUT
def rollback_command(name: str, version: int | None, api: Server, output: str) -> None:
    """Give the function NAME the code, settings and secrets of VERSION, else of the one before.

    That makes a new version. No call that begins after this ends meets the one that is left.
    """

    async def rollback() -> None:
        async with Client(api) as client:
            function = await client.rollback(name, version)
            if output == "json":
                show.print_json(function)
            else:
                show.print_live(function, await client.info())

    asyncio.run(rollback())


def _version(value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and 0 < int(value) < 1 << 64):
        raise click.BadParameter(
            f"{value!r} is no version; a whole number from 1 works, such as 2: `sanfran versions NAME` "
            "lists those that are kept, and without VERSION it is the one before the current",
            param_hint="'VERSION'",
        )
    return int(value)
