"""`sanfran` alone: asks what to do, one question after another."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import questionary

from sanfran_cli import output as show
from sanfran_cli.client import DEFAULT_API, Client, Server, is_url
from sanfran_cli.commands.deploy import deploy_project
from sanfran_cli.commands.init import KINDS, write_project
from sanfran_cli.errors import Refused
from sanfran_cli.project.fields import FILE_NAME
from sanfran_cli.project.file import read_project
from sanfran_cli.sending import open_code
from sanfran_cli.servers import find_server, read_servers

BANNER = r"""
   ___            ___
  / __| __ _ _ _ | __| _ __ _ _ _
  \__ \/ _` | ' \| _| '_/ _` | ' \
  |___/\__,_|_||_|_||_| \__,_|_||_|
"""

ACTIONS = {
    "create": "create   a new function",
    "get": "get      show a function",
    "update": "update   give a function new code",
    "delete": "delete   remove a function",
    "list": "list     show all functions",
    "init": "init     write a first project into a new folder",
}

MINIKUBE_SECONDS = 2.0
"""`minikube ip` takes half a second when it runs, and nobody waits for it when it does not."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def run_wizard() -> None:
    """Asks, does, and prints.

    Raises:
        KeyboardInterrupt: Ctrl-C, or the end of the input; said good-bye already.
    """
    click.secho(BANNER, fg="cyan")
    try:
        _ask_and_act()
    except (KeyboardInterrupt, EOFError):
        click.echo("Bye.")
        raise KeyboardInterrupt from None


def check_name(name: str) -> bool | str:
    """Whether a function may have this name; a text says what is wrong with it."""
    if _NAME.fullmatch(name):
        return True
    if not name:
        return "A name, such as hello"
    if len(name) > 63:
        return "At most 63 characters"
    return "a-z, 0-9 and - only, with a letter or digit at both ends, as in my-function"


def check_url(url: str) -> bool | str:
    """Whether this can be an API server."""
    return is_url(url) or "A URL, such as http://10.0.0.5:8081"


def check_path(path: str) -> bool | str:
    """Whether there is something at the path."""
    return bool(path and Path(path).expanduser().exists()) or "A file or folder that exists"


def minikube_api() -> str | None:
    """The address of minikube on this machine, None without one that runs."""
    if not shutil.which("minikube"):
        return None
    try:
        answer = subprocess.run(
            ["minikube", "ip"], capture_output=True, text=True, timeout=MINIKUBE_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    address = answer.stdout.strip()
    return f"http://{address}" if re.fullmatch(r"[0-9.]+", address) else None


def _ask_and_act() -> None:
    api = _ask_api()
    action = questionary.select(
        "What would you like to do?",
        [questionary.Choice(title, value) for value, title in ACTIONS.items()],
    ).unsafe_ask()
    if action == "list":
        asyncio.run(_list(api))
        return
    name = questionary.text("Name of the function:", validate=check_name).unsafe_ask()
    if action == "init":
        _init(api, name)
        return
    if action in ("create", "update"):
        path = questionary.path(
            "File, folder or archive with its code:", validate=check_path
        ).unsafe_ask()
        asyncio.run(_send(api, action, name, Path(path).expanduser()))
    elif action == "get":
        asyncio.run(_get(api, name))
    elif questionary.confirm(f"Delete {name}?", default=False).unsafe_ask():
        asyncio.run(_delete(api, name))


def _ask_api() -> Server:
    servers = read_servers()
    named = sorted(servers.by_name, key=lambda name: name != servers.current)
    choices = [questionary.Choice(f"{name:<13} {servers.by_name[name]}", name) for name in named]
    choices.append(questionary.Choice(f"this machine  {DEFAULT_API}", DEFAULT_API))
    for variable in ("SANFRAN_API", "SANFRAN_SERVER"):
        if own := os.environ.get(variable):
            choices.insert(0, questionary.Choice(f"{variable:<13} {own}", own))
    if minikube := minikube_api():
        choices.append(questionary.Choice(f"minikube      {minikube}", minikube))
    choices.append(questionary.Choice("other", ""))
    api = questionary.select("Which API server?", choices).unsafe_ask()
    wanted = api or questionary.text("Its URL:", validate=check_url).unsafe_ask()
    try:
        return find_server(wanted)
    except ValueError as error:  # what the environment names
        raise Refused(str(error)) from None


def _init(api: Server, name: str) -> None:
    kind = questionary.select(
        "What kind?", [questionary.Choice(f"{one:<8} {what}", one) for one, what in KINDS.items()]
    ).unsafe_ask()
    folder = Path(name)
    write_project(folder, kind)
    click.echo(f"{name}/ is there, with {FILE_NAME} for `sanfran deploy`.")
    if questionary.confirm("Deploy it now?").unsafe_ask():
        deploy_project(read_project(folder / FILE_NAME, os.environ), api)


async def _send(api: Server, action: str, name: str, path: Path) -> None:
    async with Client(api) as client:
        with open_code(path) as (upload, sending):
            if action == "create":
                function = await client.create(name, upload, **sending)
            else:
                function = await client.update(name, upload, **sending)
        show.print_live(function, await client.info())


async def _get(api: Server, name: str) -> None:
    async with Client(api) as client:
        function = await client.get(name)
        show.print_function(function, show.function_url(function, await client.info()))


async def _list(api: Server) -> None:
    async with Client(api) as client:
        show.print_functions([one async for one in client.list()], await client.info())


async def _delete(api: Server, name: str) -> None:
    async with Client(api) as client:
        await client.delete(name)
    click.echo(f"{name} is gone")
