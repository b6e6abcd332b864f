"""Writes the canonical tar: the same files give the same bytes, however they came.

Regular files and symbolic links only, sorted by path, owner and time zero, modes 0644 and 0755, PAX
headers only where a name needs one, two zero blocks at the end.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable
from typing import IO

from sanfran_api.bundles.archives import COPY_BYTES
from sanfran_api.bundles.layout import Member
from sanfran_api.errors import BadRequest
from sanfran_api.names import shorten


def write_tar(
    members: Iterable[Member], put: Callable[[bytes], object], check_wanted: Callable[[], None]
) -> None:
    """Hands the tar to `put`, part by part.

    Args:
        members: sorted by path.
        check_wanted: called between the parts; raises when nobody waits for it any more.

    Raises:
        BadRequest: a file is not as long as was said.
    """
    for member in members:
        check_wanted()
        put(_header(member))
        if member.open is not None:
            with member.open() as content:
                _copy(member, content, put, check_wanted)
    put(bytes(2 * tarfile.BLOCKSIZE))


def _header(member: Member) -> bytes:
    info = tarfile.TarInfo(member.path)
    info.size = member.size
    info.mode = 0o755 if member.executable else 0o644
    if member.target is not None:
        info.type = tarfile.SYMTYPE
        info.linkname = member.target
        info.mode = 0o777
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _copy(
    member: Member,
    content: IO[bytes],
    put: Callable[[bytes], object],
    check_wanted: Callable[[], None],
) -> None:
    left = member.size
    while part := content.read(COPY_BYTES):
        check_wanted()
        left -= len(part)
        if left < 0:
            break
        put(part)
    if left:
        raise BadRequest(f"file: {shorten(member.path)!r} is not as long as the archive says")
    put(bytes(-member.size % tarfile.BLOCKSIZE))
