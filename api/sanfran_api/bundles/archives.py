"""Reads uploaded archives into a `Layout`. Nothing is ever unpacked onto a disk here.

Sizes are taken from the archive's own tables and added up before any content is read; the readers
of the standard library give no more than those sizes, and `pack` checks that they give no less.
"""

from __future__ import annotations

import gzip
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Self, cast

from sanfran_api.bundles.layout import Layout, Limits, Open, is_litter
from sanfran_api.errors import BadRequest, TooLarge
from sanfran_api.names import shorten

COPY_BYTES = 256 * 1024
MAX_EXTENDED_HEADER = 64 * 1024
"""Bytes; tarfile reads these into memory whole. Real ones hold a long name or two."""
TAR_OVERHEAD = 4096
"""Bytes of headers and padding that one entry of an honest tar needs at most, nearly always."""


@contextmanager
def refusing_damage(kind: str) -> Iterator[None]:
    """Turns what the standard library says of damaged archives into `BadRequest`."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        gzip.BadGzipFile,
        struct.error,
        UnicodeError,
        NotImplementedError,
        OverflowError,
        ValueError,
        IndexError,
    ) as error:
        why = shorten(str(error) or type(error).__name__)
        raise BadRequest(f"file: not a readable {kind} ({why})", field="file") from error


def read_zip(file: IO[bytes], layout: Layout, limits: Limits) -> None:
    """Adds everything in a zip to the layout, which opens the files later.

    Raises:
        BadRequest: it is damaged, or has what no bundle may have.
        TooLarge: a limit is passed.
    """
    if _zip_entries(file) > limits.files:
        raise TooLarge(f"file: more than {limits.files} files and folders")
    archive = zipfile.ZipFile(file)
    for info in archive.infolist():
        name = info.filename
        if is_litter(name):
            layout.skip()
            continue
        mode = info.external_attr >> 16
        if info.flag_bits & 1:
            raise BadRequest(f"file: {name!r} is encrypted; pack it without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadRequest(f"file: {name!r} is compressed in a rare way; deflate works")
        kind = stat.S_IFMT(mode)
        if info.is_dir() or kind == stat.S_IFDIR:
            layout.add_folder(name)
        elif kind == stat.S_IFLNK:
            if info.file_size > MAX_EXTENDED_HEADER:
                raise BadRequest(f"file: the link {name!r} has no usable target")
            layout.add_link(name, archive.read(info).decode())
        elif kind in (0, stat.S_IFREG):
            layout.add_file(name, info.file_size, bool(mode & 0o111), _opens_zip(archive, info))
        else:
            raise BadRequest(f"file: {name!r} is a device or the like; only files work")


def _opens_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Open:
    return lambda: archive.open(info)


def _zip_entries(file: IO[bytes]) -> int:
    """How many entries the zip's directory can have at most, without reading it into objects.

    zipfile makes an object of every entry, whatever the entry count says, so a small upload
    could fill the memory. The records are those of APPNOTE.TXT, 4.3.12 to 4.3.16.
    """
    size = file.seek(0, 2)
    tail_at = max(0, size - 65_557)  # the end record, and a comment of 65,535 bytes at most
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < 22:
        raise zipfile.BadZipFile("it has no directory at its end")
    directory_bytes, directory_end = int.from_bytes(tail[at + 12 : at + 16], "little"), tail_at + at
    if at >= 76 and tail[at - 20 : at - 16] == b"PK\6\7":
        end64 = tail[at - 76 : at - 20]
        if end64[:4] == b"PK\6\6":
            directory_bytes = int.from_bytes(end64[40:48], "little")
            directory_end -= 76
    if directory_bytes > directory_end:
        raise zipfile.BadZipFile("its directory is larger than itself")
    file.seek(directory_end - directory_bytes)
    entries = file.read(directory_bytes).count(b"PK\1\2")
    file.seek(0)
    return entries


def read_tar(file: IO[bytes], layout: Layout) -> None:
    """Adds everything in an uncompressed tar to the layout.

    Raises:
        BadRequest: it is damaged, or has what no bundle may have.
        TooLarge: a limit is passed.
    """
    archive = tarfile.open(fileobj=file, mode="r:", tarinfo=_BoundedTarInfo)  # noqa: SIM115  # read later
    for info in archive:
        name = info.name
        info.pax_headers = {}  # used by now; kept, they could be larger than all the files
        if is_litter(name):
            layout.skip()
            continue
        if info.isdir():
            layout.add_folder(name)
        elif info.issym():
            layout.add_link(name, info.linkname)
        elif info.islnk():
            layout.add_hard_link(name, info.linkname)
        elif info.isreg():
            layout.add_file(name, info.size, bool(info.mode & 0o111), _opens_tar(archive, info))
        else:
            raise BadRequest(f"file: {name!r} is a device or the like; only files work")
    # tarfile takes a damaged header for the end; the end is a block of zeros, or of nothing.
    file.seek(archive.offset)
    if any(file.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"damaged at byte {archive.offset}")


def _opens_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Open:
    return lambda: cast("IO[bytes]", archive.extractfile(info))


class _BoundedTarInfo(tarfile.TarInfo):
    """Refuses headers about headers that are larger than any honest one."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        extended = (
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
            tarfile.SOLARIS_XHDTYPE,
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
        )
        if info.type in extended and info.size > MAX_EXTENDED_HEADER:
            raise BadRequest("file: a header in the archive is larger than any name needs")
        return info


def gunzip(
    source: IO[bytes], into: IO[bytes], limits: Limits, check_wanted: Callable[[], None]
) -> None:
    """Uncompresses a tgz, up to the size that a tar within the limits can have.

    Args:
        check_wanted: called between the parts; raises when nobody waits for the result any more.

    Raises:
        TooLarge: it is larger.
    """
    most = limits.unpacked_bytes + limits.files * TAR_OVERHEAD
    copied = 0
    with gzip.GzipFile(fileobj=source, mode="rb") as plain:
        while part := plain.read(COPY_BYTES):
            check_wanted()
            copied += len(part)
            if copied > most:
                raise TooLarge(f"file: unpacked, more than {limits.unpacked_bytes} bytes")
            into.write(part)
    into.seek(0)
