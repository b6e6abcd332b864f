"""A worker's side of the socket to its supervisor: orders come in, counts and signs of life go out.

Messages are lines of JSON. From the supervisor: `accept` (a replacement may take connections),
`scrape`, `retire` (serve your connections to their end, then go), `stop`. From a worker: `alive` every
second, `ready` (a controller has told its routes), `counts` with rows, and `scraped` when all were told.
The socket's end means that the supervisor is no more. A worker's code may be newer than the
supervisor's, after an upgrade: what there is here may be added to, but not changed.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from typing import Any

from sanfran_common.lifecycle import EXIT_FORCED, Lifecycle

from sanfran_router.plane import DataPlane
from sanfran_router.tally import told

ALIVE_EVERY = 1.0
"""Seconds."""
_CHUNK = 4096


class SupervisorLink:
    """Talks with the supervisor.

    Args:
        control: the socket.
        plane: whose counts are told.
        lines_dropped: how many lines the access log has dropped so far.
    """

    def __init__(
        self, control: socket.socket, plane: DataPlane, lines_dropped: Callable[[], int]
    ) -> None:
        control.setblocking(False)
        self.accept = asyncio.Event()
        self.retire = asyncio.Event()
        self.gone = False
        """The supervisor is no more."""
        self._control = control
        self._plane = plane
        self._lines_dropped = lines_dropped
        self._lines_told = 0
        self._speaking = asyncio.Lock()

    async def follow(self, life: Lifecycle) -> None:
        """Takes orders, until the supervisor is gone."""
        rest = b""
        while chunk := await _received(self._control):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                await self._obey(json.loads(line), life)
        if life.stopping.is_set():
            os._exit(EXIT_FORCED)  # it was told to stop, and then to stop at once
        self.gone = True
        life.request_stop("the supervisor has gone")

    async def _obey(self, order: dict[str, Any], life: Lifecycle) -> None:
        match order["type"]:
            case "accept":
                self.accept.set()
            case "retire":
                self.retire.set()
            case "scrape":
                await self.tell_counts(order["id"])
            case "stop":
                life.request_stop("the supervisor says so")

    async def show_life(self) -> None:
        """Tells every second that the event loop turns. Does not end."""
        while True:
            await self.say({"type": "alive"})
            await asyncio.sleep(ALIVE_EVERY)

    async def tell_counts(self, scrape: int = 0) -> None:
        """Tells what was counted since the last time.

        Args:
            scrape: the id that the supervisor has given to its question.
        """
        plane = self._plane
        async for rows in told(plane):
            await self.say({"type": "counts", "rows": rows})
        refused, plane.refused = plane.refused, 0
        lines = self._lines_dropped() - self._lines_told
        self._lines_told += lines
        await self.say(
            {
                "type": "scraped",
                "id": scrape,
                "connections": len(plane.clients),
                "functions": len(plane.table.functions),
                "refused": refused,
                "lines_dropped": lines,
            }
        )

    async def say(self, message: dict[str, Any]) -> None:
        """Sends a message; nothing when there is nobody to hear it."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        async with self._speaking:
            try:
                await asyncio.get_running_loop().sock_sendall(self._control, line)
            except OSError:
                pass  # the other direction tells of it


async def _received(control: socket.socket) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(control, _CHUNK)
    except OSError:
        return b""
