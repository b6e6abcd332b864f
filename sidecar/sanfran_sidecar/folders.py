"""Folders on disk: the private one of each Node process, and how to remove what functions left.

The run folder belongs to one process at a time (a lock says so). What an earlier owner that was
killed left in it, folders and processes, is cleared away at the start.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from sanfran_sidecar.errors import SidecarError

POD_PREFIX = "pod-"
MAX_SOCKET_PATH = 103
"""Bytes of a Unix socket's path: 104 with its end on macOS, 108 on Linux."""


class FolderInUse(SidecarError):
    """Another living process holds the folder."""


class PodFolder:
    """The private folder of one Node process. Its name cannot be guessed and is never used again.

    Attributes:
        path: the folder.
        control: where the control socket is to be.
        home: HOME and TMPDIR of the process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.control = path / "control"
        self.home = path / "tmp"

    def make(self) -> None:
        """Makes the folders, for this user only."""
        self.path.mkdir(mode=0o700)
        self.home.mkdir(mode=0o700)

    def wipe(self) -> None:
        """Removes it with everything in it; nothing to do is fine. Blocks: call it in a thread."""
        remove_tree(self.path)


class RunFolder:
    """Holds the pods' private folders and sockets. Use it with `with`; one owner at a time.

    Args:
        path: a short one, see `check_run_folder`.

    Raises:
        FolderInUse: on entering.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self._lock = lock_folder(self.path, "run folder")
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
        return PodFolder(self.path / f"{POD_PREFIX}{secrets.token_hex(8)}")

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


def lock_folder(path: Path, what: str) -> IO[str]:
    """Makes the folder for this user only, and holds it until the returned file is closed.

    Raises:
        FolderInUse: another process holds it, or another user owns it.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():  # made by someone else in a shared /tmp
        raise FolderInUse(f"{what} {path} belongs to another user; choose another one")
    path.chmod(0o700)
    lock = (path / "lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise FolderInUse(f"{what} {path} is in use by another process") from None
    return lock


def remove_tree(path: Path) -> None:
    """Removes a file or folder, also one whose owner took the write permission from its parts.

    Never follows a link. A folder that is not there is fine. Blocks.

    Raises:
        OSError: it could not be removed.
    """
    try:
        _remove(path)
    except FileNotFoundError:
        pass
    except PermissionError:
        _make_writable(path)
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _make_writable(path: Path) -> None:
    if stat.S_ISDIR(path.lstat().st_mode):
        path.chmod(0o700)
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                _make_writable(Path(entry.path))
