"""Files that are read again when they change: users, rules, keys.

A file that has become wrong, or is gone, keeps the service as it was; the log says so. Kubernetes
changes mounted Secrets by a symlink, an editor by a rename, somebody by `>`: whatever `stat` shows counts.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from sanfran_common.lifecycle import CannotStart
from sanfran_common.telemetry.logs import get_logger

log = get_logger("access")

T = TypeVar("T")
LOOK_EVERY = 1.0
"""Seconds."""
MAX_BYTES = 16 << 20
NOT_FOR_OTHERS = stat.S_IWGRP | stat.S_IRWXO


class BadFile(CannotStart):
    """A file cannot be used; names it, and says what would work."""


class WatchedFile(Generic[T]):
    """A file, and what its content means.

    Args:
        flag: the setting that names it, for errors.
        parse: raises ValueError for a content that is wrong.
        secret: others must not be able to read it.

    Raises:
        BadFile: it cannot be read, or is wrong.
    """

    def __init__(
        self, flag: str, path: Path, parse: Callable[[bytes], T], *, secret: bool = False
    ) -> None:
        self._flag = flag
        self._path = path
        self._parse = parse
        self._secret = secret
        self._seen: object = None
        self.value: T = self._read()

    def look(self) -> None:
        """Reads it again where it has changed. Any thread may call it, one at a time."""
        seen: object
        try:
            seen = _signature(os.stat(self._path))
        except OSError as error:
            seen = (error.errno,)
        if seen == self._seen:
            return
        try:
            self.value = self._read()
        except BadFile as error:
            self._seen = seen
            log.error("file not taken; the former content holds", error=str(error))
        else:
            log.info("file read again", setting=self._flag, path=str(self._path))

    def _read(self) -> T:
        try:
            with self._path.open("rb") as file:
                # Of what was opened: the name may mean another file by now.
                status = os.fstat(file.fileno())
                self._check(status)
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise BadFile(f"{self._flag}: {self._path}: {error.strerror}") from error
        if len(content) > MAX_BYTES:
            raise BadFile(f"{self._flag}: {self._path}: more than {MAX_BYTES} bytes")
        try:
            value = self._parse(content)
        except ValueError as error:
            raise BadFile(f"{self._flag}: {self._path}: {error}") from error
        self._seen = _signature(status)
        return value

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise BadFile(f"{self._flag}: {self._path}: no file; a regular one works")
        mode = stat.S_IMODE(status.st_mode)
        if self._secret and mode & NOT_FOR_OTHERS:
            raise BadFile(
                f"{self._flag}: {self._path}: mode {mode:04o} lets others read or change it; try "
                f"chmod 600 {self._path} (defaultMode: 0440 of a volume in Kubernetes)"
            )


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


async def watch_files(files: Sequence[WatchedFile[Any]]) -> None:
    """Looks at them every second. Does not end."""
    while True:
        await asyncio.sleep(LOOK_EVERY)
        for file in files:
            # In a thread: a disk may take its time, and a password may have to be hashed.
            await asyncio.to_thread(file.look)
