"""What builds left for later ones: the packed `node_modules` of each lock, and npm's own downloads.

An entry is a tar, made under another name and renamed when it is complete and on the disk. Entries that
were not used for the longest time make room. Blocks: for a thread.
"""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

MODULES, DOWNLOADS, BUILDS = "modules", "npm", "running"


class BuildCache:
    """The folder of builds. One process at a time has it, as it has the store.

    Args:
        folder: made where needed.
        most: bytes of entries, and as many of downloads at most.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._modules = folder / MODULES
        self._running = folder / BUILDS
        self._most = most
        self.downloads = folder / DOWNLOADS

    def open(self) -> None:
        """Makes the folders, and removes what a service that was killed has left half done."""
        shutil.rmtree(self._running, ignore_errors=True)
        for path in (self._running.parent, self._running, self._modules, self.downloads):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._modules.glob("*.partial"):
            path.unlink(missing_ok=True)

    def new_build(self) -> Path:
        """A private folder for one build, which its caller removes."""
        path = self._running / secrets.token_hex(16)
        path.mkdir(mode=0o700)
        return path

    def find(self, key: str) -> IO[bytes] | None:
        """The entry, open for reading, which it stays even when it makes room meanwhile."""
        path = self._path(key)
        with suppress(FileNotFoundError):
            file = path.open("rb")
            os.utime(path)
            return file
        return None

    def partial(self, key: str) -> Path:
        """Where what is to become an entry may be written: see `keep`."""
        return self._path(key).with_suffix(f".{secrets.token_hex(4)}.partial")

    def keep(self, key: str, path: Path) -> None:
        """Makes an entry of a file of `partial`, which is complete and on the disk."""
        path.replace(self._path(key))

    def make_room(self, busy: bool) -> None:
        """Removes entries, the longest unused first, and npm's downloads, until each fits.

        Args:
            busy: a build runs, which uses the downloads.
        """
        entries = [(path, path.stat()) for path in self._modules.glob("*.tar")]
        size = sum(stat.st_size for _, stat in entries)
        for path, stat in sorted(entries, key=lambda one: one[1].st_mtime_ns):
            if size <= self._most:
                break
            path.unlink(missing_ok=True)
            size -= stat.st_size
        if not busy and _size(self.downloads) > self._most:
            shutil.rmtree(self.downloads, ignore_errors=True)
            self.downloads.mkdir(mode=0o700, exist_ok=True)

    def _path(self, key: str) -> Path:
        return self._modules / f"{key}.tar"


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total
