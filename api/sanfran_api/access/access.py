"""Builds what decides who may do what, from the settings, and keeps it true while files change."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from sanfran_common.lifecycle import OwnedTasks

from sanfran_api.access.audit import Audit
from sanfran_api.access.files import WatchedFile, watch_files
from sanfran_api.access.gate import Gate
from sanfran_api.access.keys import FetchedKeys, FileKeys, KeySource, parse_keys
from sanfran_api.access.passwords import Passwords, Users, parse_admin_password, parse_users
from sanfran_api.access.rules import BUILT_IN, Rules, parse_rules
from sanfran_api.access.tokens import Tokens, parse_secret
from sanfran_api.config import ApiConfig


class Access:
    """The gate, and the audit log, while its `async with` lasts.

    Raises:
        BadFile: a file of the settings cannot be used.
        OSError: the audit log cannot be opened.
    """

    gate: Gate
    audit: Audit

    def __init__(self, config: ApiConfig) -> None:
        self._config = config
        self._parts = AsyncExitStack()
        self._files: list[WatchedFile[Any]] = []

    async def __aenter__(self) -> Self:
        config = self._config
        async with AsyncExitStack() as parts:
            audit_file = Path(config.audit_file) if config.audit_file else None
            self.audit = await parts.enter_async_context(Audit(audit_file))
            passwords = tokens = None
            if "basic" in config.ways:
                passwords = await parts.enter_async_context(Passwords(self._users()))
            if "jwt" in config.ways:
                tokens = await self._tokens(parts)
            self.gate = Gate(passwords, tokens, self._rules())
            if self._files:
                tasks = await parts.enter_async_context(OwnedTasks("access"))
                tasks.loop(watch_files(self._files), name="files")
            self._parts = parts.pop_all()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._parts.__aexit__(*error)

    def _users(self) -> list[WatchedFile[Users]]:
        config = self._config
        found: list[WatchedFile[Users]] = []
        if config.users_file:
            path = Path(config.users_file)
            found.append(WatchedFile("--users-file", path, parse_users, secret=True))
        if config.admin_password_file:
            path = Path(config.admin_password_file)
            found.append(
                WatchedFile("--admin-password-file", path, parse_admin_password, secret=True)
            )
        self._files += found
        return found

    async def _tokens(self, parts: AsyncExitStack) -> Tokens:
        config = self._config
        secret: WatchedFile[bytes] | None = None
        keys: KeySource | None = None
        if config.jwt_secret_file:
            path = Path(config.jwt_secret_file)
            secret = WatchedFile("--jwt-secret-file", path, parse_secret, secret=True)
            self._files.append(secret)
        if config.jwt_jwks.startswith(("https://", "http://")):
            keys = await parts.enter_async_context(FetchedKeys(config.jwt_jwks))
        elif config.jwt_jwks:
            file = WatchedFile("--jwt-jwks", Path(config.jwt_jwks), parse_keys)
            self._files.append(file)
            keys = FileKeys(file)
        return Tokens(
            secret=secret,
            keys=keys,
            issuer=config.jwt_issuer,
            audience=config.jwt_audience,
            user_claim=config.jwt_user_claim,
            groups_claim=config.jwt_groups_claim,
        )

    def _rules(self) -> Callable[[], Rules]:
        if not self._config.access_file:
            return lambda: BUILT_IN
        file = WatchedFile("--access-file", Path(self._config.access_file), parse_rules)
        self._files.append(file)
        return lambda: file.value
