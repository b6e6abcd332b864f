"""The addresses behind a DNS name, such as that of a headless Service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sanfran_common.telemetry.logs import get_logger

log = get_logger("rpc")

RESOLVE_EVERY = 5.0
"""Seconds between look-ups of a DNS name; also how late a new replica gets its first call."""
RESOLVE_LEAST = 0.5
"""Seconds between them when an address has failed, for what was there may be elsewhere by now, or when the name is not
known."""


class NameLookups:
    """Looks a name up again and again.

    Args:
        found: called with all addresses, after each look-up that worked.
    """

    def __init__(self, found: Callable[[set[str]], None]) -> None:
        self._found = found
        self.doubted = asyncio.Event()
        """Set when what is known of the name did not serve a call."""

    async def run(self, host: str, number: int) -> None:
        """Runs for ever.

        Args:
            number: the port.
        """
        loop = asyncio.get_running_loop()
        known = True
        while True:
            self.doubted.clear()
            try:
                found = await loop.getaddrinfo(host, number, type=socket.SOCK_STREAM)
            except OSError as error:
                # A name server that is away says nothing about the service: keep what is known.
                say = log.warning if known else log.debug
                say("name not resolved", host=host, error=str(error))
                known = False
                self.doubted.set()  # it stands for nobody while no replica is ready: soon one is
            else:
                self._found({_format(info[4]) for info in found})
                known = True
            await asyncio.sleep(RESOLVE_LEAST)
            with suppress(TimeoutError):
                async with asyncio.timeout(RESOLVE_EVERY - RESOLVE_LEAST):
                    await self.doubted.wait()


def _format(address: tuple[Any, ...]) -> str:
    host, number = address[:2]
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
