"""Secrets at rest: sealed with AES-256-GCM, under keys that lie outside of the store.

What is sealed is bound to where it stands (function, version, name), so that it opens nowhere else. The
first key of the file seals; all of them open. Each sealed value begins with the id of its key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from grpclib import Status
from sanfran_common.lifecycle import CannotStart
from sanfran_common.telemetry.logs import get_logger

from sanfran_api.errors import ApiError

log = get_logger("vault")

KEY_BYTES = 32
ID_BYTES = 8
NONCE_BYTES = 12
OVERHEAD = ID_BYTES + NONCE_BYTES + 16
"""Bytes that a sealed value has more than the value."""


class KeyRefused(ApiError, CannotStart):
    """The file of keys cannot be used, or lacks a key that is needed. Tells ids of keys, never keys."""

    code = "key_refused"
    http_status = 409
    grpc_status = Status.FAILED_PRECONDITION


class Unreadable(Exception):
    """What was sealed does not open: it was altered, or its key is not there."""


class Vault:
    """Seals and opens secrets.

    Args:
        path: of the file of keys: 32 bytes, or one key a line, in base64 or hexadecimal digits.
        own: it is the service's own, made when the first key is needed.

    Raises:
        KeyRefused: there is a file that is not of that form, or none that should be there.
    """

    def __init__(self, path: Path, *, own: bool) -> None:
        self._path = path
        self._own = own
        self._keys = self._read()

    @property
    def current(self) -> bytes:
        """Id of the key that seals."""
        return next(iter(self._keys))

    def prepare(self, needed: Iterable[bytes]) -> None:
        """Checks that all keys are there that something was sealed with, and that there is one at all.

        Args:
            needed: their ids.

        Raises:
            KeyRefused: one is not, or the service's own file cannot be made.
        """
        self._check(self._keys, needed)
        if not self._keys:
            self._renew()

    def reload(self, needed: Iterable[bytes]) -> None:
        """Reads the file again; the service's own gets a new key first.

        Raises:
            KeyRefused: as above. Then the former keys stay in use.
        """
        if self._own:
            self._check(self._read(), needed)
            self._renew()
        else:
            keys = self._read()
            self._check(keys, needed)
            self._keys = keys

    def lacks(self, needed: Iterable[bytes]) -> list[str]:
        """The ids, as people see them, of those keys that are not there."""
        return sorted(one.hex() for one in set(needed) - self._keys.keys())

    def seal(self, place: bytes, value: str) -> bytes:
        """Seals a value.

        Args:
            place: where it will stand.
        """
        key, cipher = next(iter(self._keys.items()))  # at once: they may be replaced meanwhile
        nonce = secrets.token_bytes(NONCE_BYTES)
        return key + nonce + cipher.encrypt(nonce, value.encode(), place)

    def open(self, place: bytes, sealed: bytes) -> str:
        """The opposite.

        Raises:
            Unreadable: it is not what was sealed for this place, or its key is not there.
        """
        cipher = self._keys.get(sealed[:ID_BYTES])
        if cipher is None:
            raise Unreadable(f"there is no key {sealed[:ID_BYTES].hex()}")
        nonce = sealed[ID_BYTES : ID_BYTES + NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[ID_BYTES + NONCE_BYTES :], place).decode()
        except (InvalidTag, ValueError) as error:
            raise Unreadable("it was altered, or belongs elsewhere") from error

    def _check(self, keys: dict[bytes, AESGCM], needed: Iterable[bytes]) -> None:
        missing = set(needed) - keys.keys()
        if missing:
            ids = ", ".join(sorted(one.hex() for one in missing))
            raise KeyRefused(
                f"--secrets-key-file: {self._path} does not have the key {ids}, which stored secrets "
                "are encrypted with; give the file that has it. To change keys, put the new one "
                "before it, then run `sanfran secrets rotate`"
            )

    def _read(self) -> dict[bytes, AESGCM]:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            if self._own:
                return {}
            raise KeyRefused(
                f"--secrets-key-file: there is no {self._path}; `openssl rand -base64 32` makes a key"
            ) from None
        except OSError as error:
            raise KeyRefused(f"--secrets-key-file: {self._path}: {error.strerror}") from error
        keys = [content] if len(content) == KEY_BYTES else list(self._lines(content))
        if not keys:
            raise KeyRefused(f"--secrets-key-file: {self._path} has no key; {_WORKS}")
        return {_id_of(key): AESGCM(key) for key in keys}

    def _lines(self, content: bytes) -> Iterable[bytes]:
        for number, line in enumerate(content.splitlines(), start=1):
            word = line.strip()
            if not word or word.startswith(b"#"):
                continue
            key = _decoded(word)
            if key is None:
                # The line itself may be a key with a mistake in it.
                raise KeyRefused(
                    f"--secrets-key-file: line {number} of {self._path} is no key; {_WORKS}"
                )
            yield key

    def _renew(self) -> None:
        """Puts a new key before those in the service's own file, and uses it."""
        assert self._own, "whose file it is, makes its keys"
        try:
            former = self._path.read_bytes() if self._keys else b""
            made = base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n"
            _write(self._path, made + former)
        except OSError as error:
            raise KeyRefused(
                f"--secrets-key-file: no key can be made in {self._path}: {error.strerror}"
            ) from error
        self._keys = self._read()
        log.info("key for secrets made", path=str(self._path), key=self.current.hex())


_WORKS = (
    "32 bytes work, or one key a line as 64 hexadecimal digits or in base64, as "
    "`openssl rand -base64 32` makes one"
)


def _id_of(key: bytes) -> bytes:
    return hashlib.sha256(b"sanfran secrets key\0" + key).digest()[:ID_BYTES]


def _decoded(word: bytes) -> bytes | None:
    try:
        key = bytes.fromhex(word.decode()) if len(word) == 64 else _base64(word)
    except (ValueError, binascii.Error):
        return None
    return key if len(key) == KEY_BYTES else None


def _base64(word: bytes) -> bytes:
    return base64.b64decode(word.replace(b"-", b"+").replace(b"_", b"/"), validate=True)


def _write(path: Path, content: bytes) -> None:
    """Replaces a file as a whole, readable by its owner only."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
