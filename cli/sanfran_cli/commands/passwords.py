"""hash-password."""

from __future__ import annotations

import subprocess
import sys

import click


@click.command("hash-password")
@click.argument("name")
@click.argument("groups", nargs=-1, metavar="[GROUP]...")
def hash_password_command(name: str, groups: tuple[str, ...]) -> None:
    """Print the user NAME, in these GROUPs, as a line for the api service's --users-file.

    The password is asked for, or is the first line of standard input.
    """
    code = "from sanfran_api.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "hash-password", "--", name, *groups], check=False
    )
    sys.exit(done.returncode)
