"""up."""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack
from pathlib import Path

import click

from sanfran_cli.up.folder import DataFolder, default_data
from sanfran_cli.up.ports import ReservedPort
from sanfran_cli.up.terminal import tell, warn


@click.command("up")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address where functions answer.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    metavar="PORT",
    help="Port where functions answer; 0 picks a free one.",
)
@click.option(
    "--api-port",
    type=click.IntRange(0, 65535),
    default=8081,
    show_default=True,
    metavar="PORT",
    help="Port of the REST API, on 127.0.0.1 only, as it asks nobody for a password; 0 picks one.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps functions and logs. [default: ~/.local/share/sanfran]",
)
@click.option(
    "--pool-size",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    metavar="N",
    help="Warm processes that wait for functions.",
)
@click.option(
    "--idle-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    metavar="SECONDS",
    help="Without traffic, until a function's process is recycled. [default: 60]",
)
@click.option(
    "--router-workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes of the router, which share the port.",
)
@click.option(
    "--controllers",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    metavar="N",
    help="Controllers, which share pool and functions and stand in for one another.",
)
@click.option("--demo", is_flag=True, help="Create the demo functions that do not exist yet.")
@click.option("--verbose", is_flag=True, help="Show all log lines, not only warnings and errors.")
def up_command(
    host: str,
    port: int,
    api_port: int,
    data: Path | None,
    pool_size: int,
    idle_timeout: float,
    router_workers: int,
    controllers: int,
    demo: bool,
    verbose: bool,
) -> None:
    """Run the whole engine on this machine until Ctrl-C.

    Ready when it prints `ready: URL`. Functions stay in the data folder across restarts.
    """
    from sanfran_cli.up.engine import EngineOptions, commands

    options = EngineOptions(
        pool_size=pool_size,
        idle_timeout=idle_timeout,
        router_workers=router_workers,
        controllers=controllers,
    )
    with ExitStack() as held:
        folder = held.enter_context(DataFolder((data or default_data()).expanduser().absolute()))
        http = held.enter_context(ReservedPort(host, port, "--port"))
        api = held.enter_context(ReservedPort("127.0.0.1", api_port, "--api-port"))
        lines = commands(options, folder.path, folder.run, http, api)
        asyncio.run(_run(lines, folder, http.url, api.url, demo=demo, verbose=verbose))


async def _run(
    lines: dict[str, list[str]],
    folder: DataFolder,
    url: str,
    api: str,
    *,
    demo: bool,
    verbose: bool,
) -> None:
    from sanfran_cli.up.engine import Engine

    facts = {"url": url, "api": api, "data": str(folder.path)}
    engine = Engine(lines, folder, facts, verbose=verbose)
    loop = asyncio.get_running_loop()
    for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(which, engine.stop)

    async def announce() -> None:
        tell(f"data:  {folder.path}")
        tell(f"api:   {api}")
        if demo:
            await _demo(api, url)
        tell(f"ready: {url}")

    await engine.run(announce)


async def _demo(api: str, url: str) -> None:
    from sanfran_cli.errors import Refused
    from sanfran_cli.up.demo import create_demo

    try:
        refused = await create_demo(api)
    except (Refused, OSError) as error:  # an engine without its demo is still an engine
        warn(f"The demo functions could not be created: {error}")
        return
    for name, why in refused.items():
        if why:
            warn(f"The demo function {name} could not be created: {why}")
        else:
            tell(f"demo:  {url}/fn/{name}")
