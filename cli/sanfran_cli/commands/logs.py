"""logs."""

from __future__ import annotations

import asyncio

import click

from sanfran_cli import output as show
from sanfran_cli.client import Client, Server
from sanfran_cli.commands.options import API, NAME, OUTPUT
from sanfran_cli.errors import Refused


@click.command("logs")
@NAME
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option(
    "--tail",
    type=click.IntRange(min=0),
    default=0,
    metavar="LINES",
    help="The last lines only; 0: all that are kept.",
)
@API
@OUTPUT
def logs_command(name: str, follow: bool, tail: int, api: Server, output: str) -> None:
    """Show what the function NAME wrote with console.log and the like."""

    async def print_lines() -> None:
        async with Client(api) as client:
            async for line in client.logs(name, follow=follow, tail=tail):
                if output == "json":
                    show.print_json_line(line)
                else:
                    show.print_log_line(line)
        if follow:
            raise Refused("the lines ended: the service that sends them has stopped; try again")

    asyncio.run(print_lines())
