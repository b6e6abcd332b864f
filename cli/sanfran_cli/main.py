"""The command `sanfran`. Commands are imported when they are used: `--version` takes no time."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from sanfran_cli.errors import Refused

COMMANDS = {
    "up": "engine",
    "init": "init",
    "deploy": "deploy",
    "create": "functions",
    "update": "functions",
    "get": "functions",
    "list": "functions",
    "delete": "functions",
    "versions": "versions",
    "rollback": "versions",
    "invoke": "invoke",
    "logs": "logs",
    "pool": "pool",
    "secrets": "store",
    "backup": "store",
    "restore": "store",
    "login": "login",
    "logout": "login",
    "servers": "login",
    "hash-password": "passwords",
}
"""Each command's module in `sanfran_cli.commands`, in the order of `--help`."""


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


class Commands(click.Group):
    """Finds a command's module when the command is named; turns refusals into exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"sanfran_cli.commands.{COMMANDS[cmd_name]}")
        command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except Refused as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:  # the way out of `logs -f`: no word about it
            ctx.exit(INTERRUPTED)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"sanfran {version('sanfran')}")
        ctx.exit()


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and end.",
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """JavaScript functions that answer in milliseconds.

    Without a command, a wizard asks what to do. `sanfran up` starts the engine on this machine.
    """
    if ctx.invoked_subcommand is not None:
        return
    if not sys.stdin.isatty():
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)
    from sanfran_cli.wizard import run_wizard

    run_wizard()


if __name__ == "__main__":
    main()
