"""The secrets of versions within one transaction: sealed when a version is stored, opened for services.

In a version as it is stored, and as people see it, each secret has an empty value.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import lmdb
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_api.errors import BadRequest
from sanfran_api.names import shorten
from sanfran_api.store import records
from sanfran_api.store.vault import ID_BYTES, KeyRefused, Unreadable, Vault

log = get_logger("secrets")

MAX_SECRET_BYTES = 64 * 1024
"""Names and values of a version together, sealed."""


class Sealing:
    """The databases of secrets and keys, within one transaction."""

    def __init__(
        self, txn: lmdb.Transaction[bytes], databases: Mapping[str, Any], vault: Vault
    ) -> None:
        self._txn = txn
        self._secrets = databases["secrets"]
        self._keys = databases["keys"]
        self._vault = vault

    def keys(self) -> list[bytes]:
        """Ids of the keys that something is, or was once, sealed with."""
        with self._txn.cursor(db=self._keys) as cursor:
            return list(cursor.iternext(values=False))

    def seal(
        self, version: pb.FunctionVersion, number: int, former: int | None
    ) -> dict[str, bytes]:
        """Seals a version's secrets; those without a value keep what they have.

        Args:
            number: of the version.
            former: of the version that has what is kept.

        Raises:
            BadRequest: a secret has no value to keep, or they are too large.
        """
        given = version.settings.secrets if version.settings is not None else {}
        held = self._held(version.name, former) if former is not None and given else {}
        result: dict[str, bytes] = {}
        for secret, value in given.items():
            if not value:
                if secret not in held:
                    raise _refuse(f"{shorten(secret)!r} has no value yet; give it one")
                value = self._kept(version.name, former or 0, secret, held[secret])
            result[secret] = self._vault.seal(_place(version.name, number, secret), value)
        size = sum(len(secret) + len(sealed) for secret, sealed in result.items())
        if size > MAX_SECRET_BYTES:
            raise _refuse(
                f"{size} bytes of names and sealed values, {MAX_SECRET_BYTES} are allowed"
            )
        return result

    def put(self, name: str, number: int, sealed: Mapping[str, bytes]) -> None:
        """Stores what `seal` gave."""
        if sealed:
            self._note_keys(one[:ID_BYTES] for one in sealed.values())
            key = records.version_key(name, number)
            self._txn.put(key, records.sealed(sealed), db=self._secrets)

    def drop(self, name: str, number: int) -> None:
        """Removes the secrets of a version."""
        self._txn.delete(records.version_key(name, number), db=self._secrets)

    def reveal(self, version: pb.FunctionVersion) -> pb.FunctionVersion:
        """The version with the values of its secrets, for services. One that does not open stays
        empty, which the log tells: it must not keep a whole engine from its functions."""
        settings = version.settings
        if settings is None or not settings.secrets:
            return version
        secrets = dict(settings.secrets)
        for secret, sealed in self._held(version.name, version.version).items():
            try:
                place = _place(version.name, version.version, secret)
                secrets[secret] = self._vault.open(place, sealed)
            except Unreadable as error:
                log.error(
                    "secret does not open",
                    function=version.name,
                    version=version.version,
                    secret=secret,
                    why=str(error),
                )
        return replace(version, settings=replace(settings, secrets=secrets))

    def has_settings(self, version: pb.FunctionVersion, other: pb.FunctionVersion) -> bool:
        """Whether a stored version has the settings of another one, which may keep secrets of it."""
        now, wanted = self.reveal(version).settings, other.settings
        if now is None or wanted is None:
            return now == wanted
        kept = {name: value or now.secrets.get(name, "") for name, value in wanted.secrets.items()}
        return replace(wanted, secrets=kept) == now

    def rotate(self, after: bytes, most: int) -> tuple[int, bytes | None]:
        """Seals anew, with the first key, what another key has sealed.

        Args:
            after: where the last call ended; empty at first.
            most: versions to look at.

        Returns:
            How many secrets were sealed anew, and where to go on; None: that was all.

        Raises:
            KeyRefused: one does not open. Nothing was changed.
        """
        fresh: dict[bytes, bytes] = {}
        changed = looked_at = 0
        end: bytes | None = None
        with self._txn.cursor(db=self._secrets) as cursor:
            found = cursor.set_range(after) if after else cursor.first()
            while found:
                key = cursor.key()
                if looked_at >= most:
                    end = key
                    break
                looked_at += 1
                row = records.read_sealed(cursor.value())
                old = [name for name, one in row.items() if one[:ID_BYTES] != self._vault.current]
                for name in old:
                    row[name] = self._anew(key, name, row[name])
                if old:
                    fresh[key] = records.sealed(row)
                    changed += len(old)
                found = cursor.next()
        if fresh:
            self._note_keys([self._vault.current])
        for key, value in fresh.items():
            self._txn.put(key, value, db=self._secrets)
        return changed, end

    def forget_keys(self) -> None:
        """Nothing is sealed with any other than the first key any more."""
        for key in self.keys():
            if key != self._vault.current:
                self._txn.delete(key, db=self._keys)

    def _held(self, name: str, number: int) -> dict[str, bytes]:
        raw = self._txn.get(records.version_key(name, number), db=self._secrets)
        return records.read_sealed(raw) if raw is not None else {}

    def _kept(self, name: str, number: int, secret: str, sealed: bytes) -> str:
        try:
            return self._vault.open(_place(name, number, secret), sealed)
        except Unreadable as error:
            raise _refuse(
                f"the value of {shorten(secret)!r} that is stored does not open ({error}); give it anew"
            ) from error

    def _anew(self, version_key: bytes, secret: str, sealed: bytes) -> bytes:
        place = version_key + secret.encode()
        try:
            return self._vault.seal(place, self._vault.open(place, sealed))
        except Unreadable as error:
            name = version_key.partition(b"\0")[0].decode()
            raise KeyRefused(
                f"the secret {shorten(secret)!r} of {name} does not open: {error}; set it anew, or "
                "delete the function"
            ) from error

    def _note_keys(self, keys: Iterable[bytes]) -> None:
        now = time.time_ns() // 1_000_000
        for key in keys:
            self._txn.put(key, records.u64(now), db=self._keys, overwrite=False)


def _place(name: str, number: int, secret: str) -> bytes:
    return records.version_key(name, number) + secret.encode()


def _refuse(problem: str) -> BadRequest:
    return BadRequest(f"settings.secrets: {problem}", field="settings.secrets")
