"""The demo functions, created where they do not exist."""

from __future__ import annotations

from pathlib import Path

import sanfran_cli
from sanfran_cli.client import Client
from sanfran_cli.errors import ApiRefused

SUFFIXES = frozenset({".js", ".mjs", ".cjs", ".ts"})


def demo_functions() -> dict[str, Path]:
    """Each demo function's name and where its code lies: in the wheel, or in the repository."""
    package = Path(sanfran_cli.__file__).resolve().parent
    packaged = package / "demo"
    folder = packaged if packaged.is_dir() else package.parents[1] / "demo"
    return {
        path.stem: path
        for path in sorted(folder.iterdir())
        if path.suffix in SUFFIXES or (path.is_dir() and path.name[0] not in "._")
    }


async def create_demo(api: str) -> dict[str, str]:
    """Creates those that do not exist; what a user made of one of them stays.

    Returns:
        Every name, with why the service refused it; empty for those that exist now.
    """
    functions = demo_functions()
    refused = dict.fromkeys(functions, "")
    async with Client(api) as client:
        there = {function["name"] async for function in client.list()}
        for name, path in functions.items():
            if name in there:
                continue
            try:
                await client.create(name, path)
            except ApiRefused as error:
                if error.status != 409:  # someone else just made it
                    refused[name] = str(error)
    return refused
