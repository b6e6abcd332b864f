"""deploy: a service that matches a file."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from sanfran_cli import output as show
from sanfran_cli.client import Client, Server
from sanfran_cli.commands.options import API, OUTPUT
from sanfran_cli.project.deploy import Action, Deployment, Outcome
from sanfran_cli.project.fields import FILE_NAME
from sanfran_cli.project.file import Project, read_project
from sanfran_cli.sending import open_code

COLOURS = {
    Action.CREATED: "green",
    Action.UPDATED: "yellow",
    Action.REMOVED: "red",
    Action.FAILED: "red",
}
FAILED = 1


@click.command("deploy")
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    default=Path(FILE_NAME),
    show_default=True,
    help="The file that names the functions.",
)
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option(
    "--prune",
    is_flag=True,
    help="Remove every function of the service that the file does not name.",
)
@API
@OUTPUT
@click.pass_context
def deploy_command(
    ctx: click.Context, file: Path, dry_run: bool, prune: bool, api: Server, output: str
) -> None:
    """Have the service match a file, sanfran.yaml.

    Makes the functions that the file names, and changes those whose code or settings are different;
    the others are not sent. Nothing is removed without --prune. Exit code 1 when a function failed.
    """
    project = read_project(file, os.environ)
    if dry_run:
        click.echo("Dry run: nothing is changed.", err=True)
    outcomes = deploy_project(project, api, dry_run=dry_run, prune=prune, quiet=output == "json")
    if output == "json":
        show.print_json([_as_json(one) for one in outcomes])
    failed = [one.name for one in outcomes if one.action is Action.FAILED]
    if failed:
        done = [one.name for one in outcomes if one.action is not Action.FAILED]
        rest = f"; done: {', '.join(done)}" if done else ""
        kept = "; nothing was removed" if prune else ""
        click.echo(f"Not deployed: {', '.join(failed)}{rest}{kept}.", err=True)
        ctx.exit(FAILED)


def deploy_project(
    project: Project,
    api: Server,
    *,
    dry_run: bool = False,
    prune: bool = False,
    quiet: bool = False,
) -> list[Outcome]:
    """Deploys, and prints what becomes of each function unless it has to be quiet."""
    width = max(len(one.name) for one in project.functions)

    async def deploy() -> list[Outcome]:
        async with Client(api) as client:
            deployment = Deployment(
                client,
                project,
                open_code,
                dry_run=dry_run,
                told=lambda outcome: None if quiet else _print(outcome, width),
            )
            return await deployment.run(prune=prune)

    return asyncio.run(deploy())


def _print(outcome: Outcome, width: int) -> None:
    action = click.style(f"{outcome.action.value:<9}", fg=COLOURS.get(outcome.action))
    facts = [", ".join(outcome.changes)] if outcome.changes else []
    if outcome.version and outcome.action is not Action.UNCHANGED:
        facts.insert(0, f"version {outcome.version}")
    facts += [part for part in (outcome.url, outcome.error) if part]
    click.echo(f"{action}  {outcome.name:<{width}}  {'  '.join(facts)}".rstrip())


def _as_json(outcome: Outcome) -> dict[str, object]:
    shown: dict[str, object] = {
        "name": outcome.name,
        "action": outcome.action.value,
        "changes": outcome.changes,
        "version": outcome.version,
    }
    if outcome.error:
        shown["error"] = outcome.error
    return shown
