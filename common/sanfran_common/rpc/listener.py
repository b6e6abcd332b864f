"""Accepts connections and shakes hands, with the certificates of the moment.

`create_server` of asyncio takes one context for its whole life, and says nothing of handshakes that fail.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from grpclib.protocol import H2Protocol

from sanfran_common.config import join_host_port
from sanfran_common.lifecycle import TaskOwner
from sanfran_common.rpc.certificates import ALPN, explain
from sanfran_common.rpc.tls import Tls
from sanfran_common.telemetry.logs import get_logger

log = get_logger("tls")

HANDSHAKE_TIMEOUT = 5.0
SHUTDOWN_TIMEOUT = 1.0
"""Seconds for the other side's farewell."""
BACKLOG = 256
ACCEPT_PAUSE = 0.5
"""Seconds until the next try when there is no file descriptor left."""
TELL_EVERY = 1.0
"""Seconds between two log lines about handshakes that failed: strangers must not fill the disk."""


class TlsListener(TaskOwner):
    """Listens while its `async with` lasts, or until `close`. What it has of asyncio's servers is what
    grpclib's needs of one.

    Args:
        make: the protocol of a new connection.
        strangers: take callers without a certificate, too.
        host: a name or an address.
        port: 0 picks one.
    """

    def __init__(
        self,
        make: Callable[[], H2Protocol],
        tls: Tls,
        *,
        strangers: bool,
        host: str,
        port: int,
    ) -> None:
        super().__init__("tls listener")
        self._make = make
        self._tls = tls
        self._strangers = strangers
        self._told = -TELL_EVERY
        self._accepted: set[socket.socket] = set()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
        listening.setblocking(False)
        self.sockets = (listening,)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._accepting = self._tasks.loop(self._accept(), name="accept")
        # Not in `_accept` itself: cancelled before its first step, it would leave the socket open.
        self._accepting.add_done_callback(lambda _: self.sockets[0].close())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            for connection in self._accepted:  # whose task was cancelled before its first step
                connection.close()

    def close(self) -> None:
        """Accepts no more."""
        self._accepting.cancel()

    async def wait_closed(self) -> None:
        """Returns when nothing is accepted any more."""
        await asyncio.wait({self._accepting})

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self.sockets[0])
            except ConnectionError:
                continue
            except OSError as error:
                log.error("connections cannot be accepted", error=str(error))
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            self._accepted.add(connection)
            self._tasks.spawn(self._shake(connection), name="handshake")

    async def _shake(self, connection: socket.socket) -> None:
        self._accepted.discard(connection)
        now = self._tls.now
        protocol = self._make()
        peer = _name(connection)
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=now.server_for_strangers if self._strangers else now.server,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
            )
        except OSError as error:
            self._tell(peer, error)
            protocol.handler.close()  # grpclib keeps it until then
            return
        shown: Any = transport.get_extra_info("ssl_object")
        if shown.selected_alpn_protocol() != ALPN:
            log.warning("connection refused", peer=peer, why=f"TLS: its ALPN does not offer {ALPN}")
            transport.abort()

    def _tell(self, peer: str, error: OSError) -> None:
        # Who says nothing and leaves, as probes of a port do, is not worth a line.
        gone = not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError)
        if gone and not isinstance(error, ConnectionAbortedError):
            log.debug("handshake broken off", peer=peer, why=explain(error))
        elif time.monotonic() - self._told >= TELL_EVERY:
            self._told = time.monotonic()
            log.warning("connection refused", peer=peer, why=explain(error))


def _name(connection: socket.socket) -> str:
    try:
        return join_host_port(*connection.getpeername()[:2])
    except OSError:
        return "gone"
