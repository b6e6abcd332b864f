"""create, update, get, list and delete."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click

from sanfran_cli import output as show
from sanfran_cli.client import Client, Function
from sanfran_cli.commands.options import (
    API,
    NAME,
    OUTPUT,
    chosen_settings,
    settings_options,
)
from sanfran_cli.errors import ApiRefused
from sanfran_cli.pack import Upload, folder_bytes, open_upload
from sanfran_cli.settings import merged

PROGRESS_FROM_BYTES = 4 * 1024 * 1024
"""Less is sent before a bar could be read."""

CODE = click.Path(exists=True, path_type=Path)


@click.command("create")
@NAME
@click.argument("path", type=CODE)
@settings_options
@API
@OUTPUT
def create_command(name: str, path: Path, api: str, output: str, **options: Any) -> None:
    """Make the function NAME of the file or folder PATH.

    PATH is a file (.js, .mjs, .cjs, .ts, .mts, .cts), a folder, or an archive (.zip, .tgz, .tar.gz,
    .tar).
    """
    settings = merged(chosen_settings(**options), {})

    async def create() -> None:
        async with Client(api) as client:
            with open_upload_with_progress(path) as (upload, sent):
                function = await client.create(name, upload, settings, sent=sent)
            await _print_live(client, function, output)

    asyncio.run(create())


@click.command("update")
@NAME
@click.argument("path", type=CODE, required=False)
@settings_options
@API
@OUTPUT
def update_command(name: str, path: Path | None, api: str, output: str, **options: Any) -> None:
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
            changed = merged(settings, {field: former["settings"][field] for field in adds})
        if path is None:
            return await client.update(name, None, changed, of_version=of_version)
        with open_upload_with_progress(path) as (upload, sent):
            return await client.update(name, upload, changed, of_version=of_version, sent=sent)

    async def update_and_show() -> None:
        async with Client(api) as client:
            function = None
            while function is None:
                try:
                    function = await update(client)
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
def get_command(name: str, api: str, output: str) -> None:
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
def list_command(label: tuple[str, ...], api: str, output: str) -> None:
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
@API
@OUTPUT
def delete_command(name: str, api: str, output: str) -> None:
    """Remove the function NAME. Running requests finish."""

    async def delete() -> None:
        async with Client(api) as client:
            await client.delete(name)

    asyncio.run(delete())
    if output == "json":
        show.print_json({"deleted": name})
    else:
        click.echo(f"{name} is gone")


@contextmanager
def open_upload_with_progress(path: Path) -> Iterator[tuple[Upload, Callable[[int], object]]]:
    """Opens what is to be sent; shows bars on a terminal when it is large.

    Returns:
        The upload, and what to tell how many bytes of it were sent.
    """
    with ExitStack() as stack:
        with _bar("Packing", folder_bytes(path) if path.is_dir() else 0) as packed:
            upload = stack.enter_context(open_upload(path, packed))
        with _bar("Sending", upload.size) as sent:
            yield upload, sent


def _bar(label: str, size: int) -> AbstractContextManager[Callable[[int], object]]:
    if size < PROGRESS_FROM_BYTES or not sys.stderr.isatty():
        return nullcontext(lambda _: None)
    return _shown_bar(label, size)


@contextmanager
def _shown_bar(label: str, size: int) -> Iterator[Callable[[int], object]]:
    with click.progressbar(length=size, label=label, file=sys.stderr) as bar:
        yield bar.update


async def _print_live(client: Client, function: Function, output: str) -> None:
    if output == "json":
        show.print_json(function)
    else:
        show.print_live(function, await client.info())
