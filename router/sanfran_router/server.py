"""The HTTP listener of a data plane."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sanfran_common.config import join_host_port

from sanfran_router.client import ClientConnection
from sanfran_router.listen import BACKLOG
from sanfran_router.plane import DataPlane


class Listener:
    """Accepts clients, once it is told to. `address` has the real port."""

    def __init__(self, plane: DataPlane, servers: Sequence[asyncio.Server]) -> None:
        self.plane = plane
        self._servers = servers
        host, port = servers[0].sockets[0].getsockname()[:2]
        self.address = join_host_port(host, port)

    async def accept(self) -> None:
        """From here on, connections are taken."""
        for server in self._servers:
            if server.sockets:  # else it is closed already
                await server.start_serving()

    async def retire(self, patience: float) -> None:
        """Accepts no more, and serves those who are there: see `DataPlane.retire`."""
        self._close()
        await asyncio.sleep(0)  # for what was accepted in this very turn to arrive
        await self.plane.retire(patience)

    async def stop(self, grace: float) -> int:
        """Accepts no more, and lets running requests finish.

        Args:
            grace: seconds for them.

        Returns:
            How many requests had to be cut off.
        """
        self._close()
        return await self.plane.stop(grace)

    def _close(self) -> None:
        for server in self._servers:
            server.close()


@asynccontextmanager
async def listening(plane: DataPlane, sockets: Sequence[socket.socket]) -> AsyncIterator[Listener]:
    """Serves HTTP on sockets that listen already, until the end of the block, where what still
    runs is cut off. The sockets are closed."""
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(
            lambda: ClientConnection(plane), sock=one, backlog=BACKLOG, start_serving=False
        )
        for one in sockets
    ]
    plane.wheel.start()
    plane.hangups.start()
    listener = Listener(plane, servers)
    try:
        yield listener
    finally:
        await listener.stop(0)
        plane.wheel.stop()
        plane.hangups.stop()
