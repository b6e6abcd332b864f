"""Bearer tokens: JSON Web Tokens, signed by a secret that we share or by somebody whose keys we know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from sanfran_api.access.credentials import MAX_USER, Token
from sanfran_api.access.files import WatchedFile
from sanfran_api.access.keys import KeySource
from sanfran_api.names import shorten

LEEWAY = 30.0
"""Seconds that clocks may differ."""
SHORTEST_SECRET = 32
"""Bytes; RFC 7518, section 3.2."""
MAX_GROUPS = 500
ASYMMETRIC = frozenset({"RS256", "ES256"})


class BadToken(ValueError):
    """The token does not count; says why."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a token says.

    Args:
        expires_at: seconds since 1970.
    """

    user: str
    groups: tuple[str, ...]
    expires_at: float


def parse_secret(content: bytes) -> bytes:
    """The secret of HS256 from a file.

    Raises:
        ValueError: it is too short.
    """
    secret = content.rstrip(b"\r\n")
    if len(secret) < SHORTEST_SECRET:
        raise ValueError(
            f"{len(secret)} bytes; {SHORTEST_SECRET} or more work: openssl rand -hex 32"
        )
    return secret


class Tokens:
    """Checks tokens.

    Args:
        secret: of HS256; None: no such tokens.
        keys: of RS256 and ES256; None: no such tokens.
        issuer: `iss` of every token.
        audience: among `aud` of every token.
        user_claim: has the user's name.
        groups_claim: has the groups; dots go into objects.
    """

    def __init__(
        self,
        *,
        secret: WatchedFile[bytes] | None,
        keys: KeySource | None,
        issuer: str,
        audience: str,
        user_claim: str,
        groups_claim: str,
    ) -> None:
        self._secret = secret
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._user_claim = user_claim
        self._groups_claim = groups_claim

    async def check(self, token: Token) -> Bearer:
        """What the token says.

        Raises:
            BadToken: it does not count.
            KeysMissing: it cannot be told yet.
        """
        try:
            header = jwt.get_unverified_header(token.text)
            key, algorithm = await self._key(header)
            claims = jwt.decode(
                token.text,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud"]},
            )
            expires_at = float(claims["exp"])
        except jwt.PyJWTError as error:
            raise BadToken(shorten(str(error))) from error
        except OverflowError:
            raise BadToken("exp is no time") from None
        return Bearer(self._user(claims), self._groups(claims), expires_at)

    async def _key(self, header: Mapping[str, Any]) -> tuple[Any, str]:
        """The key for a token's algorithm: one of its kind, whatever else the token says."""
        algorithm = str(header.get("alg"))
        if "crit" in header:
            raise BadToken("its header has crit, of which nothing is known here")
        if algorithm == "HS256" and self._secret is not None:
            return self._secret.value, "HS256"
        if algorithm in ASYMMETRIC and self._keys is not None:
            key_id = header.get("kid", "")
            found = await self._keys.find(str(key_id), algorithm)
            if found is None:
                raise BadToken(f"no key {shorten(str(key_id))!r} for {algorithm}")
            return found.key, found.algorithm
        raise BadToken(f"signed by {shorten(algorithm)!r}, which is not accepted here")

    def _user(self, claims: Mapping[str, Any]) -> str:
        user = claims.get(self._user_claim)
        if not isinstance(user, str) or not 0 < len(user) <= MAX_USER or not user.isprintable():
            raise BadToken(f"{self._user_claim}: no user's name")
        return user

    def _groups(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        value: Any = claims
        for part in self._groups_claim.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            return ()
        groups = [value] if isinstance(value, str) else value
        if not isinstance(groups, list) or not all(isinstance(one, str) for one in groups):
            raise BadToken(f"{self._groups_claim}: no list of groups")
        if len(groups) > MAX_GROUPS:
            raise BadToken(f"{self._groups_claim}: more than {MAX_GROUPS} groups")
        return tuple(groups)
