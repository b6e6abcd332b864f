"""A disk without room, told apart from one that fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from sanfran_api.errors import StoreFull

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def store_full(code: int) -> StoreFull:
    """The error for a disk that took no more.

    Args:
        code: the errno, for whoever has to make room.
    """
    return StoreFull(
        f"the disk under the data folder takes no more ({os.strerror(code)}); nothing was stored. "
        "Make room there, then try again"
    )


@contextmanager
def refusing_full_disk() -> Iterator[None]:
    """Turns the system's errors for a full disk into `StoreFull`."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise store_full(error.errno) from error
        raise
