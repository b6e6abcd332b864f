"""Folders on disk: the private one of each Node process, and how to remove what functions left.

The run folder belongs to one process at a time (a lock says so). What an earlier owner that was
killed left in it, folders and processes, is cleared away at the start.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import secrets
import stat
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from sanfran_common.lifecycle import CannotStart

from sanfran_sidecar.errors import SidecarError

POD_PREFIX = "pod-"
PRIVATE, SHARED = 0o700, 0o2710
"""Modes of folders: for this user alone, or for the group of a volume that two containers share, which may pass
through and not list. The set-group-ID bit gives what is made in it the volume's group."""
MAX_SOCKET_PATH = 103
"""Bytes of a Unix socket's path: 104 with its end on macOS, 108 on Linux."""


class FolderInUse(SidecarError, CannotStart):
    """Another living process holds the folder."""


class PodFolder:
    """The private folder of one Node process. Its name cannot be guessed and is never used again.

    Attributes:
        path: the folder.
        mode: its own.
        control: where the control socket is to be.
        control_mode: that socket's.
        home: HOME and TMPDIR of the process, where it is started here.
    """

    def __init__(self, path: Path, mode: int) -> None:
        self.path = path
        self.mode = mode
        self.control = path / "control"
        self.control_mode = 0o600 if mode == PRIVATE else 0o660
        self.home = path / "tmp"

    def make(self) -> None:
        """Makes the folders."""
        self.path.mkdir()
        self.path.chmod(self.mode)
        if self.mode == PRIVATE:
            self.home.mkdir(mode=PRIVATE)

    def wipe(self) -> None:
        """Removes it with everything in it; nothing to do is fine. Blocks: call it in a thread."""
        remove_tree(self.path)


class RunFolder:
    """Holds the pods' private folders and sockets. Use it with `with`; one owner at a time.

    Args:
        path: a short one, see `check_run_folder`.
        mode: of it and of the pods' folders.

    Raises:
        FolderInUse: on entering.
    """

    def __init__(self, path: Path, mode: int = PRIVATE) -> None:
        self.path = path
        self._mode = mode
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self._lock = lock_folder(self.path, "run folder", self._mode)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def clear(self) -> None:
        """Removes what an earlier owner left. Its processes must be dead. Blocks."""
        for left in self.path.glob(f"{POD_PREFIX}*"):
            remove_tree(left)

    def new_pod_folder(self) -> PodFolder:
        """A fresh place, not made yet."""
        return PodFolder(self.path / f"{POD_PREFIX}{secrets.token_hex(8)}", self._mode)

    def new_socket(self) -> str:
        """A fresh path for a pod's gRPC server."""
        return str(self.path / f"{POD_PREFIX}{secrets.token_hex(8)}.sock")


def check_run_folder(path: Path) -> None:
    """Tells early that sockets in this folder would have paths too long for the system.

    Raises:
        ValueError: says what would work.
    """
    room = MAX_SOCKET_PATH - len(f"/{POD_PREFIX}{'0' * 16}/control")
    if len(os.fsencode(path)) > room:
        raise ValueError(f"is too long for Unix sockets ({room} bytes at most); try /tmp/sanfran")


def lock_folder(path: Path, what: str, mode: int = PRIVATE) -> IO[str]:
    """Makes the folder, for this user only or with `mode`, and holds it until the returned file is closed.

    Raises:
        FolderInUse: another process holds it, or another user owns it.
    """
    path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():  # made by someone else in a shared /tmp
        raise FolderInUse(f"{what} {path} belongs to another user; choose another one")
    path.chmod(mode)
    lock = (path / "lock").open("a+", encoding="utf-8")
    os.chmod(lock.fileno(), 0o600)  # who can open it can lock it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise FolderInUse(f"{what} {path} is in use by another process") from None
    return lock


def remove_tree(path: Path) -> None:
    """Removes a file or folder, also one whose owner took the write permission from its parts.

    Never follows a link. A folder that is not there is fine. However deep the folders are nested,
    neither the stack nor a path grows: each folder is moved up to the top before it is looked
    into. Blocks.

    Raises:
        OSError: it could not be removed.
    """
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return
    except FileNotFoundError:
        return
    moved = itertools.count()
    mark = secrets.token_hex(8)  # so that no name in the top folder is hit
    folders = _empty(path)
    while folders:
        folder = folders.pop()
        for inner in _empty(folder):
            os.chmod(inner, 0o700)  # which the move of a folder needs, too
            top = f"{path}/{mark}-{next(moved)}"
            os.rename(inner, top)
            folders.append(top)
        os.rmdir(folder)
    path.rmdir()


def _empty(folder: str | Path) -> list[str]:
    """Removes what is in a folder except folders, which are returned."""
    os.chmod(folder, 0o700)
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                os.unlink(entry.path)
    return folders
