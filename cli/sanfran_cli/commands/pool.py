"""pool."""

from __future__ import annotations

import asyncio

import click

from sanfran_cli import output as show
from sanfran_cli.client import Client, Server
from sanfran_cli.commands.options import API, OUTPUT


@click.command("pool")
@click.option(
    "--decisions",
    type=click.IntRange(0, 200),
    default=10,
    show_default=True,
    metavar="N",
    help="The latest of each controller, at most.",
)
@API
@OUTPUT
def pool_command(decisions: int, api: Server, output: str) -> None:
    """Show the pool of each controller, its target, and what was decided lately and why."""

    async def get() -> None:
        async with Client(api) as client:
            pools = await client.pool(decisions=decisions)
        if output == "json":
            show.print_json(pools)
        else:
            show.print_pools(pools)

    asyncio.run(get())
