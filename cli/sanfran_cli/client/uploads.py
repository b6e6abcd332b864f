"""Code on its way to the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from sanfran_cli.errors import Refused
from sanfran_cli.pack import Upload, open_upload


@contextmanager
def opened(code: Path | Upload) -> Iterator[Upload]:
    """What is to be sent; packs and closes what is given as a path."""
    if isinstance(code, Upload):
        yield code
    else:
        with open_upload(code) as upload:
            yield upload


def counted(upload: Upload, sent: Callable[[int], object]) -> tuple[str, IO[bytes]]:
    """The upload as httpx takes a file, telling `sent` the bytes of each part."""
    return upload.file_name, cast("IO[bytes]", _Counted(upload, sent))


class _Counted:
    """A file that tells how much of it has been read, which is what has been sent."""

    def __init__(self, upload: Upload, sent: Callable[[int], object]) -> None:
        self._file = upload.content
        self._name = upload.file_name
        self._left = upload.size
        self._sent = sent

    def read(self, size: int = -1) -> bytes:
        part = self._file.read(size)
        self._left -= len(part)
        if self._left < 0 or (self._left and not part):  # half of each would be neither
            raise Refused(f"{self._name} changed while it was sent; nothing was stored. Try again")
        self._sent(len(part))
        return part

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
