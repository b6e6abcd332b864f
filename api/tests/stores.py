"""Stores for tests, and what is put into them."""

import hashlib
import io
import resource
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sanfran_api.bundles.pack import Bundle
from sanfran_api.errors import NotFound
from sanfran_api.store.backup import TRAILER_BYTES, Sealer, head
from sanfran_api.store.backups import Backups
from sanfran_api.store.store import Store
from sanfran_api.store.vault import Vault
from sanfran_proto.sanfran import v1 as pb

MIB = 1024 * 1024


class Clock:
    """Seconds since 1970, that a test can move."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@asynccontextmanager
async def opened(folder: Path, **settings: Any) -> AsyncIterator[Store]:
    given = {"limit": 1024 * MIB, "keep_versions": 20, "changed": lambda: None, **settings}
    vault = Vault(folder / "secrets.key", own=True)
    async with Store(folder / "data", vault=vault, **given) as store:
        yield store


def bundle(content: bytes) -> Bundle:
    return Bundle(
        hashlib.sha256(content).digest(), len(content), "a.js", len(content), io.BytesIO(content)
    )


def function(name: str) -> pb.FunctionVersion:
    return pb.FunctionVersion(name=name, entry="a.js", settings=pb.FunctionSettings(timeout_ms=1))


def same(current: pb.FunctionVersion) -> pb.FunctionVersion:
    return function(current.name)


def content_of(store: Store, digest: str) -> bytes:
    return b"".join(store.bundle_chunks(bytes.fromhex(digest)))


def has_bundle(store: Store, content: bytes) -> bool:
    try:
        return content_of(store, hashlib.sha256(content).hexdigest()) == content
    except NotFound:
        return False


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writes beyond a file's size fail as on a full disk (EFBIG, or in part and then EIO)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


async def fill(store: Store, size: int, stored: dict[str, bytes]) -> None:
    """Creates functions until that fails; `stored` has those that were acknowledged."""
    for number in range(10_000):
        content = number.to_bytes(4, "big") * (size // 4)
        await store.create(function(f"f{number}"), bundle(content))
        stored[f"f{number}"] = content


# Backups


async def made(backups: Backups) -> bytes:
    """A backup."""
    async with backups.open() as parts:
        return b"".join([part async for part in parts])


async def pieces(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    """As it comes in."""
    for at in range(0, len(content), size):
        yield content[at : at + size]


def opened_up(content: bytes, place: Path) -> Path:
    """The store's file in a backup."""
    place.write_bytes(content[content.index(b"\n") + 1 : -TRAILER_BYTES])
    return place


def sealed_up(file: Path) -> bytes:
    """A backup that has the file in it, whatever that is."""
    sealer = Sealer()
    return sealer.add(head()) + sealer.add(file.read_bytes()) + sealer.end()
