"""Bundles as they come, zstd or a plain tar, read as the tar that their digest is of.

zstd is told by its magic number, with which no tar begins: it is not UTF-8, as the name in a bundle is. Windows are
bounded, so reading needs little memory whatever the sender has chosen.
"""

from __future__ import annotations

import hashlib
from typing import IO

import zstandard

from sanfran_sidecar.errors import BundleUnavailable

MAGIC = b"\x28\xb5\x2f\xfd"
MAX_WINDOW = 8 << 20
"""Bytes; what RFC 8878 asks decoders for, and what every level up to 19 stays below."""
SMALL = 1 << 20
"""Bytes of the tar of a bundle that travels inside a call; the controller sends 32 KiB at most."""
READ = 128 << 10


def most_packed(size: int) -> int:
    """Bytes that so many can become at most when zstd finds nothing to compress: ZSTD_COMPRESSBOUND."""
    return size + (size >> 8) + 1024


def plain(bundle: bytes, limit: int) -> bytes:
    """A small bundle as a tar.

    Raises:
        BundleUnavailable: it is damaged, or larger than the limit.
    """
    if not bundle.startswith(MAGIC):
        return bundle
    decompress = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    most = min(limit, SMALL)
    try:
        if zstandard.frame_content_size(bundle) <= most:  # -1: the frame does not say
            return decompress.decompress(bundle, max_output_size=most)
    except zstandard.ZstdError as error:
        why = f"damaged, or more than {most} bytes: {error}"
        raise BundleUnavailable(f"the given bundle is {why}") from error
    raise BundleUnavailable(f"the given bundle has more than {most} bytes")


class PlainTar:
    """Reads a bundle from its start to its end, once, and knows the digest of what it has read.

    As much of a file as tarfile needs: positions go forward only.

    Args:
        source: at its beginning.
        name: of the bundle, for errors.
        limit: bytes of the tar, after which it cannot be what was announced.
    """

    def __init__(self, source: IO[bytes], name: str, limit: int) -> None:
        head = source.read(len(MAGIC))
        source.seek(0)
        self._source: IO[bytes] | zstandard.ZstdDecompressionReader = source
        if head == MAGIC:
            decompress = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
            self._source = decompress.stream_reader(source, read_size=READ, closefd=False)
        self._name = name
        self._limit = limit
        self._at = 0
        self._sha = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """As of a file.

        Raises:
            BundleUnavailable: it is damaged, or larger than it may be.
        """
        try:
            data = self._source.read(size)
        except zstandard.ZstdError as error:
            raise BundleUnavailable(f"bundle {self._name}: damaged: {error}") from error
        self._at += len(data)
        if self._at > self._limit:
            raise BundleUnavailable(f"bundle {self._name}: more than {self._limit} bytes came")
        self._sha.update(data)
        return data

    def tell(self) -> int:
        """Bytes read so far."""
        return self._at

    def seekable(self) -> bool:
        """Forward."""
        return True

    def seek(self, to: int, whence: int = 0) -> int:
        """Reads up to a position."""
        if whence or to < self._at:
            raise ValueError(f"bundle {self._name}: read backwards")
        while self._at < to and self.read(min(to - self._at, READ)):
            pass
        return self._at

    def digest(self) -> str:
        """SHA-256 of all of it; reads what is left."""
        while self.read(READ):
            pass
        return self._sha.hexdigest()
