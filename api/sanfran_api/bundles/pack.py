"""Makes a bundle: a canonical, uncompressed tar whose SHA-256 names it.

Canonical: regular files and symbolic links only, sorted by path, owner and time zero, modes 0644 and
0755, PAX headers only where a name needs one, two zero blocks at the end. The same files give the
same digest, however they were archived.

`pack` blocks; `Packer` runs it beside the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import tarfile
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from sanfran_api.bundles.archives import COPY_BYTES, gunzip, read_tar, read_zip, refusing_damage
from sanfran_api.bundles.entry import MAX_PACKAGE_JSON, MODULES, find_entry
from sanfran_api.bundles.layout import Layout, Limits, Member
from sanfran_api.disk import refusing_full_disk
from sanfran_api.errors import BadRequest
from sanfran_api.names import shorten

IN_MEMORY_BYTES = 1024 * 1024
"""What is larger lies in a temporary file; most functions are one small file."""
PACKERS = 2
"""Threads. Packing is CPU work under Python's lock: more would only slow each other."""
ARCHIVES = (".zip", ".tgz", ".tar.gz", ".tar")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A packed bundle. Who has it closes it.

    Args:
        digest: SHA-256 of the content.
        size: bytes of the content.
        entry: path of the module to load.
        content: the tar.
    """

    digest: bytes
    size: int
    entry: str
    content: IO[bytes]

    def close(self) -> None:
        """Frees the content."""
        self.content.close()


class Abandoned(Exception):
    """Nobody waits for this bundle any more."""


class Packer:
    """Packs uploads in threads of its own while its `async with` lasts.

    Args:
        scratch: folder for temporary files.
    """

    def __init__(self, limits: Limits, scratch: Path) -> None:
        self._limits = limits
        self._scratch = scratch
        self._threads = ThreadPoolExecutor(PACKERS, thread_name_prefix="pack")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self._threads.shutdown)

    def spool(self) -> IO[bytes]:
        """An empty temporary file, in memory as long as it is small."""
        return open_spool(self._scratch)

    async def pack(self, file: IO[bytes], file_name: str) -> Bundle:
        """Packs what was uploaded.

        Args:
            file: the upload; must stay open until this ends.
            file_name: tells what it is.

        Returns:
            The bundle, which the caller closes.

        Raises:
            BadRequest, TooLarge: the upload makes no bundle.
            StoreFull: there is no room for temporary files.
        """
        gone = threading.Event()

        def check_wanted() -> None:
            if gone.is_set():
                raise Abandoned

        work = partial(pack, file, file_name, self._limits, self.spool, check_wanted)
        packing = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(packing)
        except asyncio.CancelledError:
            gone.set()
            packing.add_done_callback(_discard)
            # The thread reads from the caller's file: it must have stopped before that is closed.
            await asyncio.wait({packing})
            raise


def _discard(packing: asyncio.Future[Bundle]) -> None:
    if not packing.cancelled() and packing.exception() is None:
        packing.result().close()


def open_spool(scratch: Path) -> IO[bytes]:
    """An empty temporary file without a name, in memory as long as it is small."""
    return cast("IO[bytes]", tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=str(scratch)))


def pack(
    file: IO[bytes],
    file_name: str,
    limits: Limits,
    spool: Callable[[], IO[bytes]],
    check_wanted: Callable[[], None],
) -> Bundle:
    """Packs what was uploaded; see `Packer.pack`.

    Args:
        spool: makes temporary files.
        check_wanted: called every now and then; raises when the result is not wanted any more.
    """
    name = check_file_name(file_name)
    file.seek(0)
    layout = Layout(limits)
    with refusing_full_disk(), spool() as plain:
        lower = name.lower()
        if lower.endswith(".zip"):
            with refusing_damage("zip"):
                read_zip(file, layout, limits)
        elif lower.endswith((".tgz", ".tar.gz")):
            with refusing_damage("tgz"):
                gunzip(file, plain, limits, check_wanted)
                read_tar(plain, layout)
        elif lower.endswith(".tar"):
            with refusing_damage("tar"):
                read_tar(file, layout)
        else:
            layout.add_file(name, file.seek(0, 2), False, lambda: _again(file))
            return _write(layout, name, spool, check_wanted)
        layout.finish()
        with refusing_damage("archive"):
            entry = find_entry(_package_json(layout), partial(_find, layout))
            return _write(layout, entry, spool, check_wanted)


def check_file_name(file_name: str) -> str:
    """The last part of the name that a client gave to its upload, if that tells what it is.

    Raises:
        BadRequest: it does not.
    """
    name = file_name.replace("\\", "/").rpartition("/")[2]
    if name.lower().endswith(ARCHIVES) or (name.endswith(MODULES) and not name.startswith(".")):
        return name
    raise BadRequest(
        f"file: {shorten(file_name)!r} is neither a module ({', '.join(MODULES)}) nor an archive "
        f"({', '.join(ARCHIVES)})",
        field="file",
    )


def _again(file: IO[bytes]) -> IO[bytes]:
    file.seek(0)
    return file


def _find(layout: Layout, path: str) -> str | None:
    found = layout.file(path)
    return found.path if found is not None else None


def _package_json(layout: Layout) -> bytes | None:
    member = layout.file("package.json")
    if member is None or member.open is None:
        return None
    if member.size > MAX_PACKAGE_JSON:
        raise BadRequest(f"file: package.json is larger than {MAX_PACKAGE_JSON} bytes")
    return member.open().read()


def _write(
    layout: Layout, entry: str, spool: Callable[[], IO[bytes]], check_wanted: Callable[[], None]
) -> Bundle:
    into = spool()
    try:
        sha = hashlib.sha256()
        size = 0

        def put(part: bytes) -> None:
            nonlocal size
            sha.update(part)
            into.write(part)
            size += len(part)

        for member in layout.members():
            check_wanted()
            put(_header(member))
            if member.open is not None:
                _copy(member, put, check_wanted)
        put(bytes(2 * tarfile.BLOCKSIZE))
        into.seek(0)
    except BaseException:
        into.close()
        raise
    return Bundle(sha.digest(), size, entry, into)


def _header(member: Member) -> bytes:
    info = tarfile.TarInfo(member.path)
    info.size = member.size
    info.mode = 0o755 if member.executable else 0o644
    if member.target is not None:
        info.type = tarfile.SYMTYPE
        info.linkname = member.target
        info.mode = 0o777
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _copy(member: Member, put: Callable[[bytes], None], check_wanted: Callable[[], None]) -> None:
    assert member.open is not None
    left = member.size
    content = member.open()
    while part := content.read(COPY_BYTES):
        check_wanted()
        left -= len(part)
        if left < 0:
            break
        put(part)
    if left:
        raise BadRequest(f"file: {shorten(member.path)!r} is not as long as the archive says")
    put(bytes(-member.size % tarfile.BLOCKSIZE))
