"""`sanfran-api hash-password NAME [GROUP...]`: prints a line for the users file."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Sequence

from sanfran_api.access.passwords import BadUsers, hash_password, parse_users

COMMAND = "hash-password"


def print_user(argv: Sequence[str]) -> None:
    """Asks for the password, at the terminal or as the first line of the standard input.

    Raises:
        SystemExit: with code 2 when the name, a group or the password does not do.
    """
    parser = argparse.ArgumentParser(
        prog=f"sanfran-api {COMMAND}",
        description="Prints a line for --users-file. The password is asked for, or is the first line "
        "of the standard input.",
    )
    parser.add_argument("name", help="of the user")
    parser.add_argument("groups", nargs="*", help="of the user, such as admin")
    given = parser.parse_args(argv)
    try:
        line = f"{given.name}:{hash_password(_password())}:{','.join(given.groups)}"
        parse_users(line.encode())
    except (ValueError, BadUsers) as error:
        parser.error(str(error).removeprefix("line 1: "))
    print(line)  # noqa: T201  # what the command is for


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise ValueError("the two passwords differ; try again")
    return password
