"""The parent's end of sd_notify(3): a datagram socket per process, so that the sender is known."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

ADDRESS_PREFIX = "X_SANFRAN_"
DATAGRAM_BYTES = 4096


class NotifySocket:
    """Waits for one process's readiness. An async context manager.

    Args:
        path: of the socket; what lies there is replaced. At most about 100 bytes long.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._addresses: asyncio.Future[dict[str, str]] = asyncio.Future()

    async def __aenter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        self._socket.setblocking(False)
        self._socket.bind(str(self._path))
        asyncio.get_running_loop().add_reader(self._socket, self._receive)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)
        self._addresses.cancel()

    async def ready(self) -> dict[str, str]:
        """The addresses that came with READY=1, by what they are: `http`, `rpc`, `admin`."""
        return await self._addresses

    def _receive(self) -> None:
        message = self._socket.recv(DATAGRAM_BYTES).decode(errors="replace")
        lines = dict(line.partition("=")[::2] for line in message.splitlines())
        if lines.get("READY") == "1" and not self._addresses.done():
            self._addresses.set_result(
                {
                    key.removeprefix(ADDRESS_PREFIX).lower(): value
                    for key, value in lines.items()
                    if key.startswith(ADDRESS_PREFIX)
                }
            )
