"""What is uploaded: a file as it is, a folder as a tgz without what its `.sanfranignore` names."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pathspec import GitIgnoreSpec

from sanfran_cli.errors import Refused

IN_MEMORY_BYTES = 4 * 1024 * 1024
"""A packed folder larger than this lies in a temporary file."""

LEFT_OUT = frozenset({".git", ".DS_Store"})
"""Never part of a function, and a history can be larger than everything else."""
IGNORE = ".sanfranignore"
LEFT_OUT_ON_TOP = frozenset({IGNORE, "sanfran.yaml"})
"""They say what a function is, and are nothing of it."""
READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """A function's code, open for reading.

    Args:
        file_name: tells the service what it is: *.js *.mjs *.cjs *.ts *.zip *.tgz *.tar.gz *.tar.
        content: from its start.
        size: of the content, in bytes.
    """

    file_name: str
    content: IO[bytes]
    size: int


@contextmanager
def open_upload(path: Path, packed: Callable[[int], object] = lambda _: None) -> Iterator[Upload]:
    """Opens a file, or packs a folder; closes (and removes) it at the end.

    Args:
        path: a file or a folder.
        packed: told the bytes of each file of a folder as it is packed, for a progress bar.

    Raises:
        Refused: it cannot be read.
    """
    with ExitStack() as stack:
        try:
            if path.is_dir():
                content: IO[bytes] = stack.enter_context(
                    tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)
                )
                _pack(path, content, packed)
                size = content.tell()
                content.seek(0)
                # Path(".").name is empty; the folder's real name is meant.
                name = f"{path.resolve().name or 'function'}.tgz"
            else:
                _check_file(path)
                content = stack.enter_context(path.open("rb"))
                size = os.fstat(content.fileno()).st_size
                name = path.name
        except OSError as error:
            raise Refused(f"{error.filename or path}: {error.strerror or error}") from error
        yield Upload(name, content, size)


def folder_bytes(path: Path) -> int:
    """How many bytes of files a folder would pack, for a progress bar."""
    return sum(one.lstat().st_size for one in members(path) if one.is_file())


def fingerprint(path: Path, *, build: bool = True) -> str:
    """What tells code apart, as `source` of a function: the same for the same names, contents,
    executable bits and links, whenever and wherever it is read.

    Args:
        path: a file, an archive or a folder.
        build: whether the service installs its dependencies, which makes another bundle.

    Raises:
        Refused: it cannot be read.
    """
    digest = hashlib.sha256(b"" if build else b"as it is\n")

    def add(kind: str, name: str, content: bytes) -> None:
        digest.update(f"{kind} {len(name.encode())} {name} {len(content)} ".encode() + content)

    try:
        if not path.is_dir():
            _check_file(path)
            add("file", path.name, _digest_of(path))
        else:
            for member in members(path):
                name = member.relative_to(path).as_posix()
                if member.is_symlink():
                    add("link", name, os.fsencode(os.readlink(member)))
                elif member.is_file():
                    kind = "program" if member.stat().st_mode & 0o111 else "file"
                    add(kind, name, _digest_of(member))
    except OSError as error:
        raise Refused(f"{error.filename or path}: {error.strerror or error}") from error
    return f"sha256:{digest.hexdigest()}"


def _check_file(path: Path) -> None:
    """Refuses what has no end, or no name that a service could be told."""
    if path.exists() and not path.is_file():
        raise Refused(f"{path} is a device or the like; a file or a folder works")
    _check_name(path.name)


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Refused(f"{os.fsencode(name)!r}: the name is not UTF-8; rename it") from None


def _digest_of(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            digest.update(part)
    return digest.digest()


def _pack(folder: Path, into: IO[bytes], packed: Callable[[int], object]) -> None:
    # Level 1: on one machine, and on most networks, more effort costs more time than it saves.
    with tarfile.open(fileobj=into, mode="w:gz", compresslevel=1) as archive:
        for path in members(folder):
            member = archive.gettarinfo(path, arcname=str(path.relative_to(folder)))
            if member is None:
                raise Refused(f"{path} is a socket; a function can have files and folders only")
            if member.islnk():  # a second name of a file already in: its own copy is simpler
                member.type = tarfile.REGTYPE
                member.size = path.stat().st_size
            # Who built it is nobody's business, and would change the archive.
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            if member.isreg():
                with path.open("rb") as file:
                    archive.addfile(member, file)
                packed(member.size)
            else:
                archive.addfile(member)


def members(folder: Path) -> Iterator[Path]:
    """Everything below the folder that is part of a function, in a fixed order, links not followed.

    Raises:
        Refused: its `.sanfranignore` is wrong.
    """
    ignore = folder / IGNORE
    try:
        lines = ignore.read_text("utf-8").splitlines() if ignore.is_file() else []
        rules = GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise Refused(f"{ignore}: {error}; write it as a .gitignore") from error
    for path in sorted(folder.iterdir()):
        if path.name not in LEFT_OUT_ON_TOP:
            yield from _members(path, folder, rules)


def _members(path: Path, top: Path, rules: GitIgnoreSpec) -> Iterator[Path]:
    is_folder = path.is_dir() and not path.is_symlink()
    name = path.relative_to(top).as_posix()
    if path.name in LEFT_OUT or rules.match_file(f"{name}/" if is_folder else name):
        return
    _check_name(name)
    yield path
    if is_folder:
        for one in sorted(path.iterdir()):
            yield from _members(one, top, rules)
