"""Writes the lock files of this folder: exact versions and hashes, no index address.

One per service (what its image installs) and `dev.txt` (all of them, and what tests need). Run it
with `make lock`. uv resolves for every platform and Python at once; pip-tools would lock only for
the machine that it runs on.
"""

import re
import subprocess
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
SETS = {
    "dev": ["local", "dev"],  # first: the others take its versions
    "router": ["router"],
    "controller": ["controller"],
    "api": ["api"],
    "sidecar": ["sidecar"],
    "cli": ["cli"],
}
HEADER = "# Exact versions and hashes; made by `make lock` from pyproject.toml.\n"


def requirements_of(extra: str, extras: dict[str, list[str]]) -> set[str]:
    """What an extra asks for, with the extras of our own that it names resolved."""
    found: set[str] = set()
    for one in extras[extra]:
        own = re.fullmatch(r"sanfran\[(.+)\]", one)
        if own is None:
            found.add(one)
        else:
            for name in own[1].split(","):
                found |= requirements_of(name, extras)
    return found


def main() -> None:
    """Locks every set."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for name, wanted in SETS.items():
        asked = sorted(set().union(*(requirements_of(extra, extras) for extra in wanted)))
        target = HERE / f"{name}.txt"
        constraint = ["--constraints", str(HERE / "dev.txt")] if name != "dev" else []
        locked = subprocess.run(
            [
                "uv",
                "pip",
                "compile",
                "-",
                "--universal",
                "--python-version",
                "3.11",
                "--generate-hashes",
                "--no-header",
                "--no-annotate",
                *constraint,
            ],
            input="\n".join(asked),
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        target.write_text(HEADER + locked)


if __name__ == "__main__":
    main()
