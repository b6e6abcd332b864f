"""Compiled code of functions on disk, beside their unpacked bundles.

Node writes what V8 has compiled, and TypeScript without its types, into a folder, and loads it in a
fraction of the time in the next process. Whoever can write there decides what the next one runs, so each
function has a folder of its own for each bundle, also where two have the same bundle. It lives as
long as the bundle.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from sanfran_sidecar.folders import remove_tree
from sanfran_sidecar.waiting import in_thread

MAX_BYTES, MAX_FILES = 64 << 20, 20_000
"""Of all compiled code of a bundle. More than that is no compiled code, and is removed."""
PREFIX = "compiled-"


class CompiledCode:
    """The folders, within the one of the bundles."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, bundle: Path, function: str) -> Path | None:
        """Where one function's code of a bundle is kept; made if needed. None: the disk is full."""
        made = self._of(bundle) / function
        try:
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            return None
        return made

    def has(self, bundle: Path) -> bool:
        """Whether anything was kept of a bundle."""
        return self._of(bundle).exists()

    async def limit(self, bundle: Path, in_use: Callable[[], bool]) -> None:
        """Removes what a bundle left, if that is too much and is not in use."""
        if await in_thread(_too_much, self._of(bundle)) and not in_use():
            for doomed in self.forget(bundle):
                await in_thread(remove_tree, doomed)

    def forget(self, bundle: Path) -> list[Path]:
        """Takes a bundle's code out of use; returns what is to be removed."""
        doomed = self._root / f"partial-{secrets.token_hex(8)}"
        try:
            self._of(bundle).rename(doomed)
        except OSError:
            return []
        return [doomed]

    def restore(self, bundles: set[str]) -> None:
        """Removes the code of all other bundles than these. Blocks."""
        for path in self._root.glob(f"{PREFIX}*"):
            if path.name.removeprefix(PREFIX) not in bundles:
                remove_tree(path)

    def _of(self, bundle: Path) -> Path:
        return self._root / f"{PREFIX}{bundle.name}"


def _too_much(folder: Path) -> bool:
    size = files = 0
    folders = [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    files += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_size
                    if size > MAX_BYTES or files > MAX_FILES:
                        return True
        except OSError:
            continue  # removed meanwhile
    return False
