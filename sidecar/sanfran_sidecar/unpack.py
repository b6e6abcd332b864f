"""Unpacks a bundle, trusting nothing in it.

Stricter than tarfile's data filter: only plain files, folders and symbolic links exist, and every
parent of a member is a folder that was made here. Links are made when all else is in place, so
nothing is ever written through one, and each is then resolved by the system itself: it must end
below the root.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Protocol, cast

from sanfran_sidecar.errors import BundleRefused

BLOCK = 4096
"""What a file or folder takes up on disk at least."""
MAX_NAME = 1024
MAX_PART = 255
"""Bytes of a member's path, what every system's PATH_MAX leaves room for, and of each of its parts."""
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one bundle: of all bytes of its files, and of its members."""

    bytes: int
    files: int


class Archive(Protocol):
    """What is read of a file; positions go forward only."""

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes; fewer at the end only."""

    def seek(self, to: int, /) -> int:
        """Goes to a position."""

    def tell(self) -> int:
        """Where it is."""


class OnlyFile(NamedTuple):
    """The content of most bundles: one plain file in the root.

    Attributes:
        member: its header.
        content: its bytes.
    """

    member: tarfile.TarInfo
    content: memoryview

    def write(self, root: Path, spare: str, limits: Limits) -> int:
        """Does what `unpack` does, in a private folder with an empty file of its own.

        Args:
            spare: name of that file, which becomes the bundle's.
        """
        member = self.member
        (name,) = _parts(member.name)
        if member.size > limits.bytes:
            raise BundleRefused(f"more than {limits.bytes} bytes of files")
        path = os.path.join(root, spare)
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        _fill(fd, [self.content], mode=_mode(member))
        os.rename(path, os.path.join(root, name))
        os.chmod(root, 0o555)
        return -(-member.size // BLOCK) * BLOCK + BLOCK


def only_file(bundle: bytes) -> OnlyFile | None:
    """What is in an archive of nothing but one plain file in its root; None: it may be anything."""
    try:
        head = bundle[: tarfile.BLOCKSIZE]
        member = tarfile.TarInfo.frombuf(head, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return None
    end = tarfile.BLOCKSIZE + member.size
    blocks = -(-end // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    plain = member.isreg() and not member.issparse() and "/" not in member.name
    # What `unpack` ends at: a block of zeros.
    if not plain or bundle[blocks : blocks + tarfile.BLOCKSIZE] != bytes(tarfile.BLOCKSIZE):
        return None
    return OnlyFile(member, memoryview(bundle)[tarfile.BLOCKSIZE : end])


def unpack(archive: Archive, root: Path, limits: Limits) -> int:
    """Writes the members of a tar into an empty private folder and makes all of it read-only.

    Args:
        archive: an uncompressed tar, at its beginning.
        root: exists and is empty; what was written stays there when this raises.

    Returns:
        Bytes that it takes up on disk, about.

    Raises:
        BundleRefused: names the member and what is wrong with it.
        OSError: the disk.
    """
    folders = {"": str(root)}
    links: list[tuple[str, str, str]] = []
    total = used = members = 0
    try:
        # tarfile needs no more of a file, though its types say so.
        with tarfile.open(fileobj=cast("IO[bytes]", archive), mode="r:") as tar:
            for member in tar:
                members += 1
                if members > limits.files:
                    raise BundleRefused(f"more than {limits.files} files")
                parts = _parts(member.name)
                if member.isdir():
                    _folder(folders, parts)
                    continue
                parent = _folder(folders, parts[:-1])
                path = os.path.join(parent, parts[-1])
                if member.issym():
                    links.append((member.name, _target(member), path))
                elif member.isreg() and not member.issparse():
                    total += member.size
                    if total > limits.bytes:
                        raise BundleRefused(f"more than {limits.bytes} bytes of files")
                    used += -(-member.size // BLOCK) * BLOCK
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                    _fill(os.open(path, flags, _mode(member)), _content(tar, member))
                else:
                    raise BundleRefused(f"{member.name!r}: neither a file nor a folder nor a link")
        for _, target, path in links:
            os.symlink(target, path)
        if links:
            real_root = os.path.realpath(root)
            for name, _, path in links:
                _check_link(name, path, real_root)
    except FileExistsError as error:
        name = os.path.relpath(os.fsdecode(error.filename2 or error.filename), root)
        raise BundleRefused(f"{name!r}: occurs twice") from None
    except NotADirectoryError as error:
        name = os.path.relpath(os.fsdecode(error.filename), root)
        raise BundleRefused(f"{name!r}: is below a file") from None
    except (tarfile.TarError, ValueError) as error:  # ValueError: numbers in extended headers
        raise BundleRefused(f"not a tar: {error}") from error
    for path in folders.values():
        os.chmod(path, 0o555)
    return used + (len(folders) + len(links)) * BLOCK


def _parts(name: str) -> list[str]:
    parts = name.split("/")
    if name.startswith("/"):
        raise BundleRefused(f"{name!r}: is an absolute path")
    if ".." in parts:
        raise BundleRefused(f"{name!r}: leaves the folder")
    if "" in parts or "." in parts or "\0" in name or len(os.fsencode(name)) > MAX_NAME:
        raise BundleRefused(f"{name!r}: is not a plain path")
    if max(len(os.fsencode(part)) for part in parts) > MAX_PART:
        raise BundleRefused(f"{name!r}: has a name of more than {MAX_PART} bytes")
    return parts


def _target(member: tarfile.TarInfo) -> str:
    target = member.linkname
    if target.startswith("/"):
        raise BundleRefused(f"{member.name!r}: links to the absolute path {target!r}")
    if not target or "\0" in target or len(os.fsencode(target)) > MAX_NAME:
        raise BundleRefused(f"{member.name!r}: has no usable target")
    return target


def _folder(folders: dict[str, str], parts: list[str]) -> str:
    """The folder of that name, made with its parents where needed."""
    name = "/".join(parts)
    known = folders.get(name)
    if known is None:
        known = os.path.join(_folder(folders, parts[:-1]), parts[-1])
        os.mkdir(known, 0o700)
        folders[name] = known
    return known


def _check_link(name: str, path: str, root: str) -> None:
    """With all files and links in place: where the link really leads must be below the root."""
    end = os.path.realpath(path)
    if end != root and not end.startswith(root + "/"):
        raise BundleRefused(f"{name!r}: links out of the folder")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[memoryview]:
    source = tar.extractfile(member)
    assert source is not None
    left = member.size
    while left:
        data = memoryview(source.read(min(left, CHUNK)))
        if not data:
            raise BundleRefused(f"{member.name!r}: ends too early")
        left -= len(data)
        yield data


def _mode(member: tarfile.TarInfo) -> int:
    return 0o555 if member.mode & 0o111 else 0o444


def _fill(fd: int, content: Iterable[memoryview], mode: int | None = None) -> None:
    try:
        if mode is not None:
            os.fchmod(fd, mode)
        for data in content:
            while data:  # a disk that gets full writes less before it refuses
                data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
