"""Runs uvicorn as one part of the service: our loop, our signals, our socket, our stop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import uvicorn
from sanfran_common.config import join_host_port, split_host_port
from sanfran_common.lifecycle import LoopEnded, OwnedTasks
from starlette.types import ASGIApp

from sanfran_api.rest.connection import Connection

BACKLOG = 256


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # `Lifecycle` has the signals

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


class RestServer:
    """Serves the application while its `async with` lasts. `address` has the real port.

    Args:
        listen: `HOST:PORT`.
        grace: seconds that running requests get at the end.
    """

    def __init__(self, app: ASGIApp, listen: str, *, grace: float) -> None:
        self.address = listen
        self._app = app
        self._grace = grace
        self._tasks = OwnedTasks("rest")

    async def __aenter__(self) -> Self:
        config = uvicorn.Config(
            self._app,
            http=Connection,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=math.ceil(self._grace),
        )
        listener = _listen(*split_host_port(self.address))
        self.address = join_host_port(*listener.getsockname()[:2])
        self._server = _Server(config)
        await self._tasks.__aenter__()
        self._serving = self._tasks.spawn(self._serve(listener), name="uvicorn")
        await self._server.up.wait()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.stop()
        finally:
            await self._tasks.__aexit__(kind, error, trace)

    async def stop(self) -> None:
        """Accepts no more, lets running requests finish within the grace, cancels the rest."""
        self._server.should_exit = True
        await asyncio.wait({self._serving})

    async def _serve(self, listener: socket.socket) -> None:
        await self._server.serve(sockets=[listener])
        if not self._server.should_exit:
            raise LoopEnded("rest: uvicorn ended while it was needed")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)
