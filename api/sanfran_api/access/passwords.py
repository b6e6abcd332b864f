"""Users with passwords: the files that have them, and the check.

A check costs some 20 ms of a core and 19 MiB by intention (argon2id, as OWASP's password storage cheat
sheet has it), so it runs in a few threads, few may wait, and what was right is remembered for a minute.
An unknown user costs as much as a wrong password.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from argon2 import Parameters, PasswordHasher, Type, extract_parameters
from argon2.exceptions import Argon2Error, InvalidHashError

from sanfran_api.access.credentials import MAX_USER, Password
from sanfran_api.access.files import WatchedFile
from sanfran_api.access.rules import ADMIN, GROUP
from sanfran_api.errors import Busy
from sanfran_api.names import shorten

THREADS = 2
MAX_CHECKS = 64
"""Checks that run or wait."""
REMEMBERED = 1024
REMEMBERED_SECONDS = 60.0
SHORTEST_PASSWORD = 8
MAX_MEMORY_KIB, MAX_PASSES = 1 << 20, 32
"""Of one hash in a users file: more is a mistake, or somebody's attack."""

HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_NAME = re.compile(r"[^\s:]+")


class BadUsers(ValueError):
    """A users file is wrong; names the line and what would work."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a password."""

    name: str
    hash: str = field(repr=False)
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Users:
    """What one file has.

    Args:
        decoy: of nobody, and as costly as the others.
    """

    by_name: Mapping[str, User]
    decoy: User


def hash_password(password: str) -> str:
    """The argon2id hash.

    Raises:
        ValueError: the password is too short.
    """
    if len(password) < SHORTEST_PASSWORD:
        raise ValueError(
            f"a password of {len(password)} characters; {SHORTEST_PASSWORD} or more work"
        )
    return HASHER.hash(_normal(password))


def parse_users(content: bytes) -> Users:
    """Reads `NAME:HASH:GROUP,GROUP` lines.

    Raises:
        BadUsers: one is wrong.
    """
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError as error:
        raise BadUsers("not UTF-8") from error
    found: dict[str, User] = {}
    for number, raw in enumerate(lines, start=1):
        line = raw.strip()
        if line and not line.startswith("#"):
            user = _user(line, f"line {number}")
            if user.name in found:
                raise BadUsers(f"line {number}: {user.name!r} is there already; one line each")
            found[user.name] = user
    return Users(found, _decoy(next(iter(found.values()), None)))


def parse_admin_password(content: bytes) -> Users:
    """Reads a file that holds the password of the user `admin`, and nothing else.

    Raises:
        ValueError: it is empty, too short, or not UTF-8.
    """
    try:
        password = content.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise BadUsers("not UTF-8") from error
    admin = User(ADMIN, hash_password(password), (ADMIN,))
    return Users({ADMIN: admin}, _decoy(admin))


def _user(line: str, where: str) -> User:
    parts = line.split(":")
    if len(parts) not in (2, 3):
        raise BadUsers(f"{where}: is not NAME:HASH:GROUPS; sanfran hash-password prints one")
    name, hashed = parts[0].strip(), parts[1].strip()
    if _NAME.fullmatch(name) is None or len(name) > MAX_USER or not name.isprintable():
        raise BadUsers(f"{where}: {shorten(name)!r} is no user's name; try vik")
    try:
        made = extract_parameters(hashed)
    except (
        InvalidHashError,
        ValueError,
        KeyError,
        IndexError,
    ):  # not all that it may raise is its own
        made = None
    if made is None or not _can_be_checked(made):
        raise BadUsers(
            f"{where}: what {name!r} has is no argon2id hash that works; sanfran hash-password {name} "
            "makes one"
        )
    groups = tuple(one.strip() for one in parts[2].split(",") if one.strip()) if parts[2:] else ()
    for group in groups:
        if GROUP.fullmatch(group) is None:
            raise BadUsers(f"{where}: {shorten(group)!r} is no group's name; try admin")
    return User(name, hashed, groups)


def _can_be_checked(made: Parameters) -> bool:
    """Whether the algorithm takes these parameters (RFC 9106, section 3.1), and their cost is bounded."""
    return (
        made.type is Type.ID
        and 1 <= made.time_cost <= MAX_PASSES
        and 1 <= made.parallelism < 1 << 24
        and 8 * made.parallelism <= made.memory_cost <= MAX_MEMORY_KIB
        and made.hash_len >= 4
        and made.salt_len >= 8
    )


def _decoy(like: User | None) -> User:
    secret = os.urandom(16).hex()
    if like is None:
        return User("", HASHER.hash(secret), ())
    return User("", PasswordHasher.from_parameters(extract_parameters(like.hash)).hash(secret), ())


class Passwords:
    """Checks passwords. Threads end with its `async with`.

    Args:
        files: the users; of two with one name the first counts.
        monotonic: seconds.
    """

    def __init__(
        self,
        files: Sequence[WatchedFile[Users]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._monotonic = monotonic
        self._key = os.urandom(32)
        self._right: OrderedDict[bytes, tuple[User, float]] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")

    async def __aenter__(self) -> Passwords:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def remembered(self, given: Password) -> User | None:
        """The user, when this password was right a short while ago, and still is."""
        key = self._digest(given)
        user, until = self._right.get(key, (None, 0.0))
        if user is None:
            return None
        if self._find(given.user) is not user or until < self._monotonic():
            del self._right[key]
            return None
        return user

    def is_checking(self, given: Password) -> bool:
        """Whether this user and password are being checked: whoever joins that learns nothing more."""
        return self._digest(given) in self._running

    async def check(self, given: Password) -> User | None:
        """The user, when the password is right.

        Raises:
            Busy: too many checks wait.
        """
        user = self._find(given.user)
        key = self._digest(given)
        running = self._running.get(key)
        if running is None:
            if len(self._running) >= MAX_CHECKS:
                raise Busy("too many passwords are being checked")
            hashed = (user or self._files[0].value.decoy).hash
            running = asyncio.get_running_loop().run_in_executor(
                self._threads, _fits, hashed, _normal(given.password)
            )
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key, None))
        # Shared by callers with the same credentials: one that leaves does not take it along.
        fits = await asyncio.shield(running)
        # Another file may hold by now, with another password: what was checked is gone then.
        if not fits or user is None or self._find(given.user) is not user:
            return None
        self._right[key] = (user, self._monotonic() + REMEMBERED_SECONDS)
        if len(self._right) > REMEMBERED:
            self._right.popitem(last=False)
        return user

    def _find(self, name: str) -> User | None:
        for file in self._files:
            user = file.value.by_name.get(name)
            if user is not None:
                return user
        return None

    def _digest(self, given: Password) -> bytes:
        text = f"{given.user}:{given.password}"  # no user has a colon
        return hmac.digest(self._key, text.encode(), "sha256")


def _fits(hashed: str, password: str) -> bool:
    try:
        return HASHER.verify(hashed, password)
    except (Argon2Error, InvalidHashError):
        return False


def _normal(password: str) -> str:
    """One password, however a keyboard composes its letters (RFC 8265, 4.2.2)."""
    return unicodedata.normalize("NFC", password)
