"""Which files a bundle has: names made canonical, and everything refused that could leave the folder.

Pure. A bundle holds regular files and symbolic links; folders exist by the files in them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import IO

from sanfran_api.errors import BadRequest, TooLarge
from sanfran_api.names import shorten

MAX_PATH = 1024
"""Bytes of a path; leaves room for the pod's own folder below Linux's PATH_MAX of 4096."""
MAX_COMPONENT = 255
"""Bytes between two slashes: NAME_MAX of the file systems that bundles are unpacked on."""
MAX_HOPS = 40
"""Links followed to resolve one path, as in Linux."""
MAX_STEPS = 1_000_000
"""Path components walked to check all links of a bundle; thousands of packages need far fewer."""


Open = Callable[[], AbstractContextManager[IO[bytes]]]
"""Opens the content of a file from its start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large an upload and what is in it may be."""

    upload_bytes: int
    unpacked_bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class Member:
    """One file or symbolic link.

    Args:
        path: below the bundle's root, with / between its parts.
        size: bytes; 0 for a link.
        executable: whether anyone may run it.
        target: of a symbolic link, else None.
        open: opens the content of a file.
    """

    path: str
    size: int
    executable: bool
    target: str | None
    open: Open | None


class Layout:
    """The files of one bundle, added one by one in the archive's order."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._members: dict[str, Member] = {}
        self._folders: set[str] = set()
        self._entries = 0
        self._bytes = 0
        self._steps = 0

    def skip(self) -> None:
        """Counts an entry that is left out, so that no number of them is free."""
        self._count(0)

    def add_folder(self, name: str) -> None:
        """Notes a folder, only to refuse a file of the same name."""
        path = self._admit(name, 0)
        if path:
            self._claim_folder(path, name)

    def add_file(self, name: str, size: int, executable: bool, open: Open) -> None:
        """Adds a regular file.

        Raises:
            BadRequest: the name cannot be in a bundle, or is there already.
            TooLarge: a limit is passed.
        """
        self._add(name, size, Member("", size, executable, None, open))

    def add_link(self, name: str, target: str) -> None:
        """Adds a symbolic link; `finish` checks where it leads."""
        if target.startswith("/"):
            raise BadRequest(f"file: the link {_show(name)} leads to {_show(target)}, outside")
        _check_text(target, f"the target of the link {_show(name)}")
        if not target or len(target.encode()) > MAX_PATH:
            raise BadRequest(f"file: the link {_show(name)} has no usable target")
        self._add(name, 0, Member("", 0, False, target, None))

    def add_hard_link(self, name: str, target: str) -> None:
        """Adds another copy of a file that came before."""
        original = self._members.get(clean_path(target))
        if original is None or original.open is None:
            raise BadRequest(
                f"file: {_show(name)} is a hard link to {_show(target)}, "
                "which is no file before it in the archive"
            )
        self.add_file(name, original.size, original.executable, original.open)

    def finish(self) -> None:
        """Strips a lone top folder, then checks the whole.

        Raises:
            BadRequest: there is no file, or a link leaves the folder or goes in circles.
        """
        if not any(member.open for member in self._members.values()):
            raise BadRequest("file: the archive has no files; add at least index.js")
        self._strip_lone_folder()
        self.check_links()

    def check_links(self) -> None:
        """Once more for what came after `finish`.

        Raises:
            BadRequest: a link leaves the folder or goes in circles.
        """
        for path, member in self._members.items():
            if member.target is not None:
                self.resolve(path)

    def has(self, path: str) -> bool:
        """Whether there is a file, a link, or a folder with something in it at the path."""
        return path in self._members or any(one.startswith(f"{path}/") for one in self._members)

    def members(self) -> list[Member]:
        """All files and links, by path."""
        return [self._members[path] for path in sorted(self._members)]

    def file(self, path: str) -> Member | None:
        """The regular file that the path names, links followed, or None."""
        try:
            member = self._members.get(self.resolve(path))
        except BadRequest:  # a path out of package.json may lead anywhere
            return None
        return member if member is not None and member.open is not None else None

    def resolve(self, path: str) -> str:
        """Where a path leads when every link on its way is followed.

        Raises:
            BadRequest: it leaves the folder, or goes in circles.
        """
        done: list[str] = []
        rest = path.split("/")[::-1]
        hops = 0
        while rest:
            self._steps += 1
            part = rest.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not done:
                    raise BadRequest(f"file: {_show(path)} leads out of the folder")
                done.pop()
                continue
            done.append(part)
            member = self._members.get("/".join(done))
            if member is None or member.target is None:
                continue
            hops += 1
            if hops > MAX_HOPS or self._steps > MAX_STEPS:
                raise BadRequest(f"file: the link {_show(path)} goes in circles")
            done.pop()
            rest.extend(member.target.split("/")[::-1])
        return "/".join(done)

    def _add(self, name: str, size: int, member: Member) -> None:
        path = self._admit(name, size)
        if not path:
            raise BadRequest(f"file: {_show(name)} is no name for a file")
        if path in self._members:
            raise BadRequest(f"file: {_show(path)} is in the archive twice")
        if path in self._folders:
            raise BadRequest(f"file: {_show(path)} is both a file and a folder")
        parent = path.rpartition("/")[0]
        if parent:
            self._claim_folder(parent, name)
        self._members[path] = replace(member, path=path)

    def _admit(self, name: str, size: int) -> str:
        self._count(size)
        return clean_path(name)

    def _count(self, size: int) -> None:
        self._entries += 1
        self._bytes += size
        if self._entries > self._limits.files:
            raise TooLarge(f"file: more than {self._limits.files} files and folders")
        if self._bytes > self._limits.unpacked_bytes:
            raise TooLarge(f"file: unpacked, more than {self._limits.unpacked_bytes} bytes")

    def _claim_folder(self, path: str, name: str) -> None:
        while path and path not in self._folders:
            member = self._members.get(path)
            if member is not None and member.target is not None:
                raise BadRequest(f"file: {_show(name)} lies behind the link {_show(path)}")
            if member is not None:
                raise BadRequest(f"file: {_show(path)} is both a file and a folder")
            self._folders.add(path)
            path = path.rpartition("/")[0]

    def _strip_lone_folder(self) -> None:
        tops = {path.partition("/")[0] for path in self._members}
        if len(tops) != 1:
            return
        top = tops.pop()
        if top in self._members or top == "node_modules":
            return
        cut = len(top) + 1
        self._members = {
            path[cut:]: replace(member, path=path[cut:]) for path, member in self._members.items()
        }
        self._folders = {path[cut:] for path in self._folders if path.startswith(f"{top}/")}


def is_litter(name: str) -> bool:
    """Whether it is one of the files that macOS adds to archives and folders."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return bool(parts) and (parts[0] == "__MACOSX" or parts[-1] == ".DS_Store")


def clean_path(name: str) -> str:
    """The canonical form of a name in an archive; empty for the root itself.

    Raises:
        BadRequest: it is absolute, goes up, or cannot be a file's name on every system.
    """
    _check_text(name, "the name")
    if name.startswith("/"):
        raise BadRequest(f"file: {_show(name)} is absolute; names below the folder work")
    if "\\" in name:
        raise BadRequest(f"file: {_show(name)} has a backslash; pack it with / in its names")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadRequest(f"file: {_show(name)} goes out of the folder with '..'")
    path = "/".join(parts)
    if len(path.encode()) > MAX_PATH:
        raise BadRequest(f"file: {_show(name)} is longer than {MAX_PATH} bytes")
    if any(len(part.encode()) > MAX_COMPONENT for part in parts):
        raise BadRequest(f"file: {_show(name)} has a part longer than {MAX_COMPONENT} bytes")
    return path


def _check_text(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"file: {what} {_show(text)} is not UTF-8") from None
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise BadRequest(f"file: {what} {_show(text)} has a control character")


def _show(text: str) -> str:
    return repr(shorten(text, 120))
