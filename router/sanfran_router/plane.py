"""What all connections of one router process share."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any

from sanfran_common.config import split_host_port

from sanfran_router import errors
from sanfran_router.activation import Activator
from sanfran_router.authorization import Authorizer
from sanfran_router.config import RouterConfig
from sanfran_router.function import Endpoint
from sanfran_router.hangup import HangupWatch
from sanfran_router.table import Table
from sanfran_router.traffic import Traffic
from sanfran_router.upstream import UpstreamConnection
from sanfran_router.wheel import TimerWheel

if TYPE_CHECKING:
    from sanfran_router.client import ClientConnection
    from sanfran_router.exchange import Exchange
    from sanfran_router.placed import Placed

AccessLog = Callable[["Exchange"], None]
Spawn = Callable[[Coroutine[Any, Any, None], str], object]

OUT_OF_SOCKETS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
)
"""Failures to connect that say nothing about the pod: dropped for them, it would be lost for as long
as no controller is there to tell of it again."""


class DataPlane:
    """The shared parts, for connections to reach.

    Args:
        spawn: starts a task that the router owns.
        access_log: called once per finished request; None: off.
        authorizer: knows who may call private functions.
    """

    __slots__ = (
        "access_log",
        "activator",
        "all_closed",
        "authorizer",
        "clients",
        "closing",
        "config",
        "hangups",
        "refused",
        "refusing",
        "spawn",
        "stopping",
        "table",
        "unrouted",
        "wheel",
    )

    def __init__(
        self,
        config: RouterConfig,
        table: Table,
        activator: Activator,
        wheel: TimerWheel,
        spawn: Spawn,
        authorizer: Authorizer,
        access_log: AccessLog | None = None,
    ) -> None:
        self.authorizer = authorizer
        self.config = config
        self.table = table
        self.activator = activator
        self.wheel = wheel
        self.spawn = spawn
        self.access_log = access_log
        self.hangups = HangupWatch()
        self.clients: set[ClientConnection] = set()
        self.refusing: set[ClientConnection] = set()
        """Connections over the limit, until they have read why."""
        self.closing = False
        """Each answer is its connection's last: it says `Connection: close`."""
        self.stopping = False
        self.all_closed = asyncio.Event()
        self.unrouted = Traffic()
        """Requests that name no function."""
        self.refused = 0
        """Connections over the limit."""

    def connect(self, endpoint: Endpoint, exchange: Placed, *, pause: float = 0.0) -> None:
        """Opens a connection; `exchange.send` or `on_connect_failed` follows.

        Args:
            pause: seconds before.
        """
        self.spawn(self._connect(endpoint, exchange, pause), f"connect {endpoint.address}")

    async def _connect(self, endpoint: Endpoint, exchange: Placed, pause: float) -> None:
        loop = asyncio.get_running_loop()
        if pause:
            await asyncio.sleep(pause)
        try:
            host, port = split_host_port(endpoint.address)
            async with asyncio.timeout(self.config.connect_timeout):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self, exchange.function, endpoint), host, port
                )
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            if not isinstance(error, OSError) or error.errno not in OUT_OF_SOCKETS:
                exchange.on_connect_failed(endpoint)
            elif exchange.wants(endpoint):
                exchange.fail(errors.NO_CAPACITY)
            return
        if connection.transport.is_closing():
            exchange.on_connect_failed(endpoint)  # accepted, and closed before anything was sent
        elif exchange.wants(endpoint):
            exchange.send(connection)
        else:
            connection.rest(monotonic())

    def wind_down(self) -> None:
        """From here on every connection ends with its next answer, also a new one.

        Whoever sends more over a connection goes elsewhere before it would be closed as an idle one, when a
        request could be on its way.
        """
        self.closing = True

    async def retire(self, patience: float) -> None:
        """Serves its connections to their end, which comes with their next answer.

        An idle one stays open: were it closed here, a request on its way would be lost.

        Args:
            patience: seconds; then it returns, whatever is left.
        """
        self.wind_down()
        try:
            async with asyncio.timeout(patience):
                while self.clients:
                    self.all_closed.clear()
                    await self.all_closed.wait()
        except TimeoutError:
            pass

    async def stop(self, grace: float) -> int:
        """Lets running requests finish, idle connections go at once.

        Args:
            grace: seconds.

        Returns:
            How many requests had to be cut off.
        """
        self.closing = self.stopping = True
        for client in list(self.clients):
            client.drain()
        began = monotonic()
        while self.clients and monotonic() - began < grace:
            self.all_closed.clear()
            try:
                async with asyncio.timeout(grace - (monotonic() - began)):
                    await self.all_closed.wait()
            except TimeoutError:
                break
        cut = sum(client.busy for client in self.clients)
        for client in [*self.clients, *self.refusing]:
            client.abort()
        if cut:
            await asyncio.sleep(0)  # the last answers leave
        for function in list(self.table.functions.values()):
            for endpoint in function.endpoints:
                endpoint.retire()
        return cut
