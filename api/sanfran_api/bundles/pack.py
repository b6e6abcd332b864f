"""Makes a bundle: a canonical tar (see `tar`) whose SHA-256 names it, compressed with zstd.

The digest and the size are those of the tar, so that they say what is in it, and not how well that was
compressed. `Packer` does the work beside the event loop, and has what is missing built.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

import zstandard

from sanfran_api.builds.builder import MODULES, Builder
from sanfran_api.builds.npm import Say
from sanfran_api.builds.plan import Plan, plan_build
from sanfran_api.bundles.archives import gunzip, read_tar, read_zip, refusing_damage
from sanfran_api.bundles.entry import MAX_PACKAGE_JSON, SUFFIXES, find_entry
from sanfran_api.bundles.folder import write_folder
from sanfran_api.bundles.layout import Layout, Limits
from sanfran_api.bundles.tar import write_tar
from sanfran_api.disk import refusing_full_disk
from sanfran_api.errors import BadRequest
from sanfran_api.names import shorten
from sanfran_api.threads import Check, in_thread

IN_MEMORY_BYTES = 1024 * 1024
"""What is larger lies in a temporary file; most functions are one small file."""
PACKERS = 2
"""Threads. Packing is CPU work under Python's lock: more would only slow each other."""
ARCHIVES = (".zip", ".tgz", ".tar.gz", ".tar")
LEVEL = 3
"""Of zstd, its default: some 200 MB/s, and JavaScript takes a quarter of the room."""
MAX_LOCK = 32 * 1024 * 1024
"""Bytes of a lock file; one of a thousand packages has half a megabyte."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A packed bundle. Who has it closes it.

    Args:
        digest: SHA-256 of the tar.
        size: bytes of the tar.
        entry: path of the module to load.
        stored: bytes of the content.
        content: the tar, compressed.
    """

    digest: bytes
    size: int
    entry: str
    stored: int
    content: IO[bytes]

    def close(self) -> None:
        """Frees the content."""
        self.content.close()


@dataclass(frozen=True, slots=True)
class _Opened:
    """An upload that was looked through. Who has it closes it."""

    layout: Layout
    entry: str
    plan: Plan | None
    files: ExitStack = field(default_factory=ExitStack)


class Packer:
    """Packs uploads in threads of its own while its `async with` lasts.

    Args:
        scratch: folder for temporary files.
        builder: makes the `node_modules` that an upload asks for.
    """

    def __init__(self, limits: Limits, scratch: Path, builder: Builder) -> None:
        self._limits = limits
        self._scratch = scratch
        self._builder = builder
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
        return cast(
            "IO[bytes]", tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=str(self._scratch))
        )

    async def pack(
        self,
        file: IO[bytes],
        file_name: str,
        *,
        build: bool = True,
        say: Say = lambda _: None,
    ) -> Bundle:
        """Packs what was uploaded.

        Args:
            file: the upload; must stay open until this ends.
            file_name: tells what it is.
            build: installs the dependencies that package.json names where `node_modules` is missing.
            say: told what the build writes.

        Returns:
            The bundle, which the caller closes.

        Raises:
            BadRequest, TooLarge: the upload makes no bundle.
            BuildFailed, RegistryFailed, Busy: its dependencies cannot be installed.
            StoreFull: there is no room for temporary files.
        """
        look = partial(open_upload, file, file_name, self._limits, self.spool)
        with _of_the_file():
            opened = await in_thread(look, self._threads, lambda one: one.files.close())
        with opened.files as files, _of_the_file():
            modules = None
            if build and opened.plan is not None:
                modules = files.enter_context(await self._build(opened.layout, opened.plan, say))
            write = partial(write_bundle, opened.layout, opened.entry, modules, self.spool)
            return await in_thread(write, self._threads, Bundle.close)

    async def _build(self, layout: Layout, plan: Plan, say: Say) -> IO[bytes]:
        whole = b""
        if plan.whole:
            whole = await in_thread(partial(_digest, layout), self._threads)
        return await self._builder.modules(plan, whole, partial(write_folder, layout), say)


@contextmanager
def _of_the_file() -> Iterator[None]:
    try:
        yield
    except BadRequest as error:
        error.field = "file"
        raise


def open_upload(
    file: IO[bytes],
    file_name: str,
    limits: Limits,
    spool: Callable[[], IO[bytes]],
    check_wanted: Check,
) -> _Opened:
    """Looks through an upload: what is in it, what is loaded of it, what has to be built.

    Args:
        spool: makes temporary files.
        check_wanted: called every now and then; raises when the result is not wanted any more.

    Raises:
        BadRequest, TooLarge: it makes no bundle.
    """
    name = check_file_name(file_name)
    file.seek(0)
    layout = Layout(limits)
    with refusing_full_disk(), ExitStack() as files:
        lower = name.lower()
        if lower.endswith(".zip"):
            with refusing_damage("zip"):
                read_zip(file, layout, limits)
        elif lower.endswith((".tgz", ".tar.gz")):
            plain = files.enter_context(spool())
            with refusing_damage("tgz"):
                gunzip(file, plain, limits, check_wanted)
                read_tar(plain, layout)
        elif lower.endswith(".tar"):
            with refusing_damage("tar"):
                read_tar(file, layout)
        else:
            layout.add_file(name, file.seek(0, 2), False, lambda: _again(file))
            return _Opened(layout, name, None, files.pop_all())
        layout.finish()
        with refusing_damage("archive"):
            entry = find_entry(
                _content(layout, "package.json", MAX_PACKAGE_JSON), partial(_find, layout)
            )
            plan = plan_build(lambda path: _content(layout, path, MAX_LOCK), layout.has(MODULES))
        return _Opened(layout, entry, plan, files.pop_all())


def write_bundle(
    layout: Layout,
    entry: str,
    modules: IO[bytes] | None,
    spool: Callable[[], IO[bytes]],
    check_wanted: Check,
) -> Bundle:
    """Packs a layout, together with the tar of what was built for it.

    Raises:
        BadRequest, TooLarge: together they make no bundle.
    """
    if modules is not None:
        read_tar(modules, layout)
        layout.check_links()
    into = spool()
    try:
        with refusing_full_disk(), refusing_damage("archive"):
            sha = hashlib.sha256()
            size = 0
            compress = zstandard.ZstdCompressor(level=LEVEL).compressobj()

            def put(part: bytes) -> None:
                nonlocal size
                sha.update(part)
                size += len(part)
                into.write(compress.compress(part))

            write_tar(layout.members(), put, check_wanted)
            into.write(compress.flush())
            stored = into.tell()
            into.seek(0)
    except BaseException:
        into.close()
        raise
    return Bundle(sha.digest(), size, entry, stored, into)


def check_file_name(file_name: str) -> str:
    """The last part of the name that a client gave to its upload, if that tells what it is.

    Raises:
        BadRequest: it does not.
    """
    name = file_name.replace("\\", "/").rpartition("/")[2]
    if name.lower().endswith(ARCHIVES) or (name.endswith(SUFFIXES) and not name.startswith(".")):
        return name
    raise BadRequest(
        f"file: {shorten(file_name)!r} is neither a module ({', '.join(SUFFIXES)}) nor an "
        f"archive ({', '.join(ARCHIVES)})",
        field="file",
    )


def _again(file: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    file.seek(0)
    return nullcontext(file)


def _find(layout: Layout, path: str) -> str | None:
    found = layout.file(path)
    return found.path if found is not None else None


def _content(layout: Layout, path: str, most: int) -> bytes | None:
    member = layout.file(path)
    if member is None or member.open is None:
        return None
    if member.size > most:
        raise BadRequest(f"file: {path} is larger than {most} bytes")
    with member.open() as file:
        return file.read()


def _digest(layout: Layout, check_wanted: Check) -> bytes:
    sha = hashlib.sha256()
    write_tar(layout.members(), sha.update, check_wanted)
    return sha.digest()
