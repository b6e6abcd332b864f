"""Archives of every kind as people make them, and the bundles that they become."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import IO

import pytest
import zstandard
from sanfran_api.bundles.layout import Limits
from sanfran_api.bundles.pack import Bundle, open_upload, write_bundle
from sanfran_api.errors import ApiError

LIMITS = Limits(upload_bytes=10_000_000, unpacked_bytes=1_000_000, files=100)
CODE = b"module.exports = () => {}\n"


def spool() -> IO[bytes]:
    return io.BytesIO()


def pack(
    file: IO[bytes],
    name: str,
    limits: Limits,
    spool: Callable[[], IO[bytes]],
    check_wanted: Callable[[], None],
) -> Bundle:
    """What `Packer.pack` does in its threads, without a build."""
    opened = open_upload(file, name, limits, spool, check_wanted)
    with opened.files:
        return write_bundle(opened.layout, opened.entry, None, spool, check_wanted)


def packed(content: bytes, name: str, limits: Limits = LIMITS) -> Bundle:
    """The bundle with its tar as content, which is what its digest is of."""
    made = pack(io.BytesIO(content), name, limits, spool, lambda: None)
    compressed = made.content.read()
    assert len(compressed) == made.stored
    tar = zstandard.ZstdDecompressor().decompressobj().decompress(compressed)
    assert len(tar) == made.size
    return replace(made, content=io.BytesIO(tar))


def refused(content: bytes, name: str, limits: Limits = LIMITS) -> ApiError:
    with pytest.raises(ApiError) as caught:
        packed(content, name, limits)
    assert caught.value.http_status in (400, 413)
    return caught.value


def files_of(bundle: Bundle) -> dict[str, bytes | str]:
    """Content by path; a link's target as text."""
    found: dict[str, bytes | str] = {}
    with tarfile.open(fileobj=bundle.content, mode="r:") as archive:
        for info in archive:
            if info.issym():
                found[info.name] = info.linkname
            else:
                file = archive.extractfile(info)
                assert file is not None
                found[info.name] = file.read()
    return found


Files = Mapping[str, bytes]


def make_zip(files: Files) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return into.getvalue()


def make_tar(files: Files, *extra: tarfile.TarInfo, mode: str = "w") -> bytes:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid = len(content), 12345, 1000
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return into.getvalue()


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def make_tgz(files: Files) -> bytes:
    return make_tar(files, mode="w:gz")


ARCHIVERS: list[tuple[str, Callable[[Files], bytes]]] = [
    ("a.zip", make_zip),
    ("a.tgz", make_tgz),
    ("a.tar.gz", make_tgz),
    ("a.tar", make_tar),
    ("A.ZIP", make_zip),
]
