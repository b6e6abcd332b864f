"""Folders on this machine: what a build has made, and what it is made of."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from sanfran_api.bundles.layout import Layout, Open
from sanfran_api.errors import BadRequest


def read_folder(folder: Path, layout: Layout, wanted: Callable[[str], bool]) -> None:
    """Adds what lies in a folder on this machine to the layout, links as links.

    Args:
        wanted: whether a path is to be added.

    Raises:
        BadRequest: it has what no bundle may have.
        TooLarge: a limit is passed.
    """
    for parent, folders, names in os.walk(folder):
        for name in sorted((*names, *folders)):
            path = Path(parent, name)
            relative = str(path.relative_to(folder))
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) or not wanted(relative):
                continue
            if stat.S_ISLNK(found.st_mode):
                layout.add_link(relative, os.readlink(path))
            elif stat.S_ISREG(found.st_mode):
                layout.add_file(relative, found.st_size, bool(found.st_mode & 0o111), _opens(path))
            else:
                raise BadRequest(f"file: {relative!r} is a device or the like; only files work")


def _opens(path: Path) -> Open:
    return lambda: path.open("rb")


def write_folder(layout: Layout, folder: Path, check_wanted: Callable[[], None]) -> None:
    """Writes the files of a layout, checked by its `finish`, into an empty folder.

    Args:
        check_wanted: called between the files; raises when nobody waits for it any more.
    """
    members = layout.members()
    for member in members:
        check_wanted()
        path = folder / member.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.open is not None:
            with member.open() as content, path.open("xb") as file:
                shutil.copyfileobj(content, file)
    # Last, so that nothing is written through one.
    for member in members:
        if member.target is not None:
            (folder / member.path).symlink_to(member.target)
