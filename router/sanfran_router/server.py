"""The HTTP listener of a data plane."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sanfran_common.config import join_host_port, split_host_port

from sanfran_router.client import ClientConnection
from sanfran_router.plane import DataPlane

BACKLOG = 2048
"""Connections that wait to be accepted; a burst of clients must not meet a refusal."""


class Listener:
    """Accepts clients. `address` has the real port."""

    def __init__(self, plane: DataPlane, server: asyncio.Server) -> None:
        self._plane = plane
        self._server = server
        host, port = server.sockets[0].getsockname()[:2]
        self.address = join_host_port(host, port)

    async def stop(self, grace: float) -> int:
        """Accepts no more, and lets running requests finish.

        Args:
            grace: seconds for them.

        Returns:
            How many requests had to be cut off.
        """
        self._server.close()
        return await self._plane.stop(grace)


@asynccontextmanager
async def listening(plane: DataPlane) -> AsyncIterator[Listener]:
    """Serves HTTP until the end of the block, where what still runs is cut off."""
    host, port = split_host_port(plane.config.listen)
    server = await asyncio.get_running_loop().create_server(
        lambda: ClientConnection(plane), host, port, backlog=BACKLOG
    )
    plane.wheel.start()
    listener = Listener(plane, server)
    try:
        yield listener
    finally:
        await listener.stop(0)
        plane.wheel.stop()


def allow_many_files() -> None:
    """Raises the soft limit of open files to the hard one: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard and hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
