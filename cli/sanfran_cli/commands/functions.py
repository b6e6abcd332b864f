"""create, update, get, list and delete."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from sanfran_cli import output as show
from sanfran_cli.client import Client, Function, Server
from sanfran_cli.commands.options import (
    API,
    NAME,
    OUTPUT,
    YES,
    chosen_settings,
    confirm,
    settings_options,
)
from sanfran_cli.errors import ApiRefused, BuildFailed, Refused
from sanfran_cli.sending import open_code
from sanfran_cli.settings import merged

CODE = click.Path(exists=True, path_type=Path)
NO_BUILD = click.option(
    "--no-build",
    is_flag=True,
    help="Take the folder as it is: install nothing that its package.json names.",
)


@click.command("create")
@NAME
@click.argument("path", type=CODE)
@NO_BUILD
@settings_options
@API
@OUTPUT
def create_command(
    name: str, path: Path, no_build: bool, api: Server, output: str, **options: Any
) -> None:
    """Make the function NAME of the file or folder PATH.

    PATH is a file (.js, .mjs, .cjs, .ts, .mts, .cts), a folder, or an archive (.zip, .tgz, .tar.gz,
    .tar). The service installs the packages that a folder's package.json names, where it has no
    node_modules.
    """
    settings = merged(chosen_settings(**options), {})

    async def create() -> None:
        async with Client(api) as client:
            with open_code(path, build=not no_build) as (upload, sending):
                function = await client.create(name, upload, settings, **sending)
            await _print_live(client, function, output)

    asyncio.run(create())


@click.command("update")
@NAME
@click.argument("path", type=CODE, required=False)
@NO_BUILD
@settings_options
@API
@OUTPUT
def update_command(
    name: str, path: Path | None, no_build: bool, api: Server, output: str, **options: Any
) -> None:
    """Give the function NAME the code at PATH, or new settings, or both.

    What is not given stays as it is: --env sets one variable beside those that are there, as
    --label does one label, and only --env-file replaces all variables. No call that begins after this ends meets the older version.
    """
    settings = chosen_settings(**options) or None
    if path is None and settings is None:
        raise click.UsageError("nothing to update; give a PATH or a setting such as --timeout 5")

    adds = [field for field in ("env", "labels") if settings and field in settings]
    if options["env_file"]:
        adds.remove("env")

    async def update(client: Client) -> Function:
        changed, of_version = settings, None
        if settings and adds:
            former = await client.get(name)
            of_version = former["version"]
            for field in adds:
                if field in former.get("hidden", []):
                    raise Refused(
                        f"you may not see the {field} of {name} (settings:view), so nothing can be set "
                        f"beside what is there; --env-file replaces all of it"
                    )
            changed = merged(settings, {field: former["settings"][field] for field in adds})
        if path is None:
            return await client.update(name, None, changed, of_version=of_version)
        with open_code(path, build=not no_build) as (upload, sending):
            return await client.update(name, upload, changed, of_version=of_version, **sending)

    async def update_and_show() -> None:
        async with Client(api) as client:
            function = None
            while function is None:
                try:
                    function = await update(client)
                except BuildFailed as error:
                    raise Refused(f"{error}\n{name} goes on as it was.") from error
                except ApiRefused as error:
                    # Someone else was quicker, and each round somebody is done.
                    if error.code != "version_changed":
                        raise
            await _print_live(client, function, output)

    asyncio.run(update_and_show())


@click.command("get")
@NAME
@API
@OUTPUT
def get_command(name: str, api: Server, output: str) -> None:
    """Show the function NAME."""

    async def get() -> None:
        async with Client(api) as client:
            function = await client.get(name)
            if output == "json":
                show.print_json(function)
            else:
                show.print_function(function, show.function_url(function, await client.info()))

    asyncio.run(get())


@click.command("list")
@click.option(
    "-l",
    "--label",
    multiple=True,
    metavar="K=V",
    help="Only functions that have it, or K with any value; may be repeated.",
)
@API
@OUTPUT
def list_command(label: tuple[str, ...], api: Server, output: str) -> None:
    """Show every function, and what becomes of it."""

    async def list_all() -> None:
        async with Client(api) as client:
            functions = [one async for one in client.list(status=True, labels=label)]
            if output == "json":
                show.print_json(functions)
            elif label and not functions:
                click.echo(f"No function has {', '.join(label)}.", err=True)
            else:
                show.print_functions(functions, await client.info())

    asyncio.run(list_all())


@click.command("delete")
@NAME
@YES
@API
@OUTPUT
def delete_command(name: str, yes: bool, api: Server, output: str) -> None:
    """Remove the function NAME, with all its versions. Running requests finish.

    Asks first in a terminal, and nobody where no terminal is: in a script or a pipeline.
    """
    if not yes and sys.stdin.isatty():
        confirm(f"Delete {name} and all its versions at {api}?")

    async def delete() -> None:
        async with Client(api) as client:
            await client.delete(name)

    asyncio.run(delete())
    if output == "json":
        show.print_json({"deleted": name})
    else:
        click.echo(f"{name} is gone")


async def _print_live(client: Client, function: Function, output: str) -> None:
    if output == "json":
        show.print_json(function)
    else:
        show.print_live(function, await client.info())
