"""Keys and values of the databases.

| database | key | value |
| --- | --- | --- |
| meta | `schema`, `revision` | u64 |
| functions | name | u64 version, u64 revision of its last change |
| versions | name, NUL, u64 version | u64 revision that made it, `FunctionVersion` message, secrets' values empty |
| secrets | name, NUL, u64 version | JSON: secret's name → sealed value in base64, see `vault` |
| keys | id of a key that something is sealed with | u64 ms since 1970 of its first use |
| numbers | name | u64: last version number ever given; stays after a delete |
| bundles | digest | u64 bytes of the tar, u64 references, u64 bytes of the chunks; in stores of schema 1 the first two, and the chunks are the tar |
| chunks | digest, u32 number | bytes of the tar's zstd |
| unreferenced | digest | u64 ms since 1970, u64 revision: since when |
| changes | u64 revision | `p`, u64 version, name; or `d`, name |

Numbers are big-endian, so that keys sort by them.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from sanfran_common.rpc.codec import CODEC
from sanfran_proto.sanfran import v1 as pb

SCHEMA = 2
"""Grows when an older service could not read what a newer one writes; see `migrations`."""
DATABASES = (
    "meta",
    "functions",
    "versions",
    "secrets",
    "keys",
    "numbers",
    "bundles",
    "chunks",
    "unreferenced",
    "changes",
)
CHUNK_BYTES = 64 * 4096 - 16
"""Fills 64 pages of LMDB: a large value begins with a page header of 16 bytes."""

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_PAIR = struct.Struct(">QQ")
_TRIPLE = struct.Struct(">QQQ")


@dataclass(frozen=True, slots=True)
class Head:
    """Where a function stands: its current version, and the revision that made it."""

    version: int
    revision: int


@dataclass(frozen=True, slots=True)
class BundleRow:
    """A complete bundle, how many versions need it, and how many bytes its chunks have."""

    size: int
    references: int
    stored: int


@dataclass(frozen=True, slots=True)
class Note:
    """Since when nothing refers to a bundle."""

    ms: int
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one function; `version` is None when it was deleted."""

    name: str
    version: int | None


def u64(number: int) -> bytes:
    """A number as key or value."""
    return _U64.pack(number)


def read_u64(raw: bytes) -> int:
    """The opposite."""
    return int(_U64.unpack(raw)[0])


def head(row: Head) -> bytes:
    """Value in `functions`."""
    return _PAIR.pack(row.version, row.revision)


def read_head(raw: bytes) -> Head:
    """The opposite."""
    return Head(*_PAIR.unpack(raw))


def bundle(row: BundleRow) -> bytes:
    """Value in `bundles`."""
    return _TRIPLE.pack(row.size, row.references, row.stored)


def read_bundle(raw: bytes) -> BundleRow:
    """The opposite."""
    if len(raw) == _PAIR.size:  # written by schema 1
        size, references = _PAIR.unpack(raw)
        return BundleRow(size, references, size)
    return BundleRow(*_TRIPLE.unpack(raw))


def version_prefix(name: str) -> bytes:
    """What the keys of a function's versions begin with."""
    return name.encode() + b"\0"


def version_key(name: str, version: int) -> bytes:
    """Key in `versions`."""
    return version_prefix(name) + u64(version)


def version(revision: int, version: pb.FunctionVersion) -> bytes:
    """Value in `versions`."""
    return u64(revision) + CODEC.encode(version, pb.FunctionVersion)


def read_version(raw: bytes) -> pb.FunctionVersion:
    """The opposite: the version."""
    found: pb.FunctionVersion = CODEC.decode(raw[8:], pb.FunctionVersion)
    return found


def revision_of(raw: bytes) -> int:
    """The opposite: the revision that made it."""
    return read_u64(raw[:8])


def without_revision(raw: bytes) -> bytes:
    """What is the same wherever the version is stored."""
    return raw[8:]


def sealed(secrets: Mapping[str, bytes]) -> bytes:
    """Value in `secrets`."""
    return json.dumps(
        {name: base64.b64encode(one).decode() for name, one in secrets.items()}
    ).encode()


def read_sealed(raw: bytes) -> dict[str, bytes]:
    """The opposite."""
    return {name: base64.b64decode(one) for name, one in json.loads(raw).items()}


def note(row: Note) -> bytes:
    """Value in `unreferenced`."""
    return _PAIR.pack(row.ms, row.revision)


def read_note(raw: bytes) -> Note:
    """The opposite."""
    return Note(*_PAIR.unpack(raw))


def chunk_key(digest: bytes, number: int) -> bytes:
    """Key in `chunks`."""
    return digest + _U32.pack(number)


def change(row: Change) -> bytes:
    """Value in `changes`."""
    if row.version is None:
        return b"d" + row.name.encode()
    return b"p" + u64(row.version) + row.name.encode()


def read_change(raw: bytes) -> Change:
    """The opposite."""
    if raw[:1] == b"d":
        return Change(raw[1:].decode(), None)
    return Change(raw[9:].decode(), read_u64(raw[1:9]))
