"""Public keys that check tokens: a JSON Web Key Set (RFC 7517) from a file or from an address."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from sanfran_common.lifecycle import TaskOwner
from sanfran_common.telemetry.logs import get_logger

from sanfran_api.access.errors import KeysMissing
from sanfran_api.access.files import WatchedFile

log = get_logger("access")

RENEW_EVERY = 300.0
ASK_AGAIN = 30.0
"""Seconds between fetches for keys that nobody knows: anybody can send a token with such a key."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between attempts while there are no keys at all; doubling."""
FETCH_SECONDS = 5.0
MAX_BYTES = 1 << 20
MIN_RSA_BITS = 2048

PublicKey = RSAPublicKey | EllipticCurvePublicKey


class BadKeys(ValueError):
    """A key set is wrong; says what is."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key, and the only algorithm that it is used with."""

    id: str
    algorithm: str
    key: PublicKey


Keys = tuple[Key, ...]


class KeySource(Protocol):
    """Where keys come from."""

    async def find(self, key_id: str, algorithm: str) -> Key | None:
        """The key of that id for that algorithm.

        Args:
            key_id: empty: the only one for the algorithm.

        Raises:
            KeysMissing: it cannot be told yet.
        """


def parse_keys(content: bytes) -> Keys:
    """Reads a key set. Keys for other purposes, and kinds that are not used here, are left out.

    Raises:
        BadKeys: it is none, or nothing is left.
    """
    try:
        document = json.loads(content)
        listed = document["keys"]
        found = tuple(key for one in listed if (key := _key(one)) is not None)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadKeys('is no JSON Web Key Set; {"keys": [...]} works') from error
    if not found:
        raise BadKeys("has no key that works: RSA from 2048 bits, or EC with P-256, for signatures")
    return found


def _key(told: Any) -> Key | None:
    if not isinstance(told, dict) or told.get("use", "sig") != "sig":
        return None
    if "verify" not in told.get("key_ops", ["verify"]):
        return None
    # The kind of key decides on the algorithm, never the token: a public key must not come to be
    # used as the secret of an HMAC.
    if told.get("kty") == "RSA":
        algorithm = "RS256"
    elif told.get("kty") == "EC" and told.get("crv") == "P-256":
        algorithm = "ES256"
    else:
        return None
    if told.get("alg", algorithm) != algorithm:
        return None
    try:
        key = jwt.PyJWK(told, algorithm).key
    except jwt.PyJWTError:
        return None
    if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey):
        return None  # a private key: not what belongs here
    if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        return None
    return Key(str(told.get("kid", "")), algorithm, key)


def choose(keys: Keys, key_id: str, algorithm: str) -> Key | None:
    """See `KeySource.find`."""
    fitting = [one for one in keys if one.algorithm == algorithm]
    if key_id:
        fitting = [one for one in fitting if one.id == key_id]
    return fitting[0] if len(fitting) == 1 else None


class FileKeys:
    """Keys of a file, read again when it changes."""

    def __init__(self, file: WatchedFile[Keys]) -> None:
        self._file = file

    async def find(self, key_id: str, algorithm: str) -> Key | None:
        """See `KeySource`."""
        return choose(self._file.value, key_id, algorithm)


class FetchedKeys(TaskOwner):
    """Keys of an address, fetched again every five minutes, and when a token names an unknown one.

    Args:
        url: https, or http on this machine.
        fetch: the content of the address; raises OSError or BadKeys.
        monotonic: seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        fetch: Callable[[str], bytes] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("keys")
        self._url = url
        self._fetch = fetch or fetch_keys
        self._monotonic = monotonic
        self._keys: Keys = ()
        self._fetching = asyncio.Lock()
        self._tried_at = -ASK_AGAIN

    async def __aenter__(self) -> FetchedKeys:
        await super().__aenter__()
        self._tasks.loop(self._renew(), name="renew")
        return self

    async def find(self, key_id: str, algorithm: str) -> Key | None:
        """See `KeySource`."""
        key = choose(self._keys, key_id, algorithm)
        if key is None:
            async with self._fetching:
                if self._monotonic() - self._tried_at >= ASK_AGAIN:
                    await self._try()
            key = choose(self._keys, key_id, algorithm)
        if key is None and not self._keys:
            raise KeysMissing("the keys that check tokens could not be fetched yet; try again")
        return key

    async def _renew(self) -> None:
        pause = FIRST_PAUSE
        while True:
            async with self._fetching:
                await self._try()
            if self._keys:
                pause = FIRST_PAUSE
                await asyncio.sleep(RENEW_EVERY)
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _try(self) -> None:
        self._tried_at = self._monotonic()
        try:
            async with asyncio.timeout(FETCH_SECONDS * 2):
                self._keys = parse_keys(await _in_thread(self._fetch, self._url))
        except (OSError, BadKeys) as error:  # the former ones hold
            log.error("keys not fetched", url=self._url, error=str(error), keys=len(self._keys))


async def _in_thread(fetch: Callable[[str], bytes], url: str) -> bytes:
    """Like `asyncio.to_thread`, but for a stop of the service, which does not wait for it: who publishes the
    keys may hang for seconds."""
    loop = asyncio.get_running_loop()
    fetched: asyncio.Future[bytes] = loop.create_future()

    def tell(content: bytes, error: Exception | None) -> None:
        if fetched.done():
            return  # nobody waits any more
        if error is None:
            fetched.set_result(content)
        else:
            fetched.set_exception(error)

    def work() -> None:
        content, failure = b"", None
        try:
            content = fetch(url)
        except Exception as error:  # noqa: BLE001  # it is raised where the content is awaited
            failure = error
        try:
            loop.call_soon_threadsafe(tell, content, failure)
        except RuntimeError:
            pass  # the loop is closed: the service has stopped

    threading.Thread(target=work, name="keys", daemon=True).start()
    return await fetched


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def fetch_keys(url: str) -> bytes:
    """What is at the address. Blocks.

    Raises:
        OSError: it could not be had in a few seconds.
        BadKeys: it is too large.
    """
    until = time.monotonic() + FETCH_SECONDS
    opener = urllib.request.build_opener(_NoRedirects)
    request = urllib.request.Request(url, headers={"accept": "application/json"})
    content = b""
    try:
        with opener.open(request, timeout=FETCH_SECONDS) as answer:
            while piece := answer.read1(65536):
                content += piece
                if len(content) > MAX_BYTES:
                    raise BadKeys(f"more than {MAX_BYTES} bytes")
                if time.monotonic() > until:
                    raise TimeoutError("too slow")
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP answer: {error!r}") from error
    return content
