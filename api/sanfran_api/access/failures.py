"""Limits for wrong credentials. Pure: no I/O, no clock; monotonic seconds come in.

Three buckets look at an attempt: one for the user at the address, one for the address, one for the user
from everywhere. Each holds so many attempts and refills with time; a right answer gives its attempt back.
A user who has logged in from an address lately is known there: only the bucket for both counts then, so
neither somebody else behind the same address nor an attack from elsewhere keeps them out.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

MAX_KEYS = 20_000
"""Of buckets, and of users known at an address; the longest unused go first. Some megabytes."""
KNOWN_SECONDS = 24 * 3600.0
"""How long a user stays known at an address."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Attempts at once, and the seconds until one more."""

    burst: int
    every: float


PAIR = Limit(10, 6.0)
ADDRESS = Limit(50, 1.0)
USER = Limit(100, 1.0)


class Buckets:
    """Token buckets by key."""

    def __init__(self, limit: Limit, size: int = MAX_KEYS) -> None:
        self._limit = limit
        self._size = size
        self._full_at: OrderedDict[str, float] = OrderedDict()  # when it would be full again

    def wait(self, key: str, now: float) -> float:
        """Seconds until there is an attempt; 0: now."""
        full_at = self._full_at.get(key, now)
        return max(0.0, full_at - now - (self._limit.burst - 1) * self._limit.every)

    def take(self, key: str, now: float) -> None:
        """Counts an attempt."""
        full_at = max(self._full_at.pop(key, now), now)
        self._full_at[key] = full_at + self._limit.every
        if len(self._full_at) > self._size:
            self._full_at.popitem(last=False)

    def give_back(self, key: str, now: float) -> None:
        """It was right after all."""
        full_at = self._full_at.get(key)
        if full_at is None:
            return
        if full_at - self._limit.every <= now:
            del self._full_at[key]
        else:
            self._full_at[key] = full_at - self._limit.every

    def __len__(self) -> int:
        return len(self._full_at)


class Failures:
    """Who may still try."""

    def __init__(self, size: int = MAX_KEYS) -> None:
        self._pairs = Buckets(PAIR, size)
        self._addresses = Buckets(ADDRESS, size)
        self._users = Buckets(USER, size)
        self._known: OrderedDict[str, float] = OrderedDict()
        self._size = size

    def attempt(self, user: str, address: str, now: float) -> float:
        """Counts an attempt, unless there have been too many.

        Returns:
            Seconds to wait; 0: it was counted, and may be looked at.
        """
        buckets = self._of(user, address, now)
        wait = max(bucket.wait(key, now) for bucket, key in buckets)
        if not wait:
            for bucket, key in buckets:
                bucket.take(key, now)
        return wait

    def succeeded(self, user: str, address: str, now: float) -> None:
        """The attempt was right."""
        self.taken_back(user, address, now)
        pair = _pair(user, address)
        self._known.pop(pair, None)
        self._known[pair] = now + KNOWN_SECONDS
        if len(self._known) > self._size:
            self._known.popitem(last=False)

    def taken_back(self, user: str, address: str, now: float) -> None:
        """The attempt does not count: it was not looked at after all."""
        for bucket, key in self._of(user, address, now):
            bucket.give_back(key, now)

    def _of(self, user: str, address: str, now: float) -> list[tuple[Buckets, str]]:
        pair = _pair(user, address)
        if self._known.get(pair, 0.0) > now:
            return [(self._pairs, pair)]
        return [
            (self._pairs, pair),
            (self._addresses, network_of(address)),
            (self._users, user),
        ]


def _pair(user: str, address: str) -> str:
    return f"{network_of(address)} {user}"


def network_of(address: str) -> str:
    """What one attacker has: an IPv4 address, or a /64 of IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)
