"""Ports that stay ours while the service behind one is started again."""

from __future__ import annotations

import errno
import socket
import sys
from contextlib import AbstractContextManager
from types import TracebackType

from sanfran_cli.errors import Refused


class ReservedPort(AbstractContextManager["ReservedPort"]):
    """A TCP port that is free now, and known before the service that listens there runs.

    On Linux the port stays bound, without listening, as long as this lives: a listener with
    SO_REUSEADDR may share it, but no outgoing connection gets it, also while the service is
    between two lives. Elsewhere a second bind would fail, so it is given up at once.

    Args:
        host: to listen on.
        port: 0 picks one.
        flag: of the command line, for the message.

    Raises:
        Refused: it cannot be had; names the flag and what would work.
    """

    def __init__(self, host: str, port: int, flag: str) -> None:
        try:
            family, kind, _, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self._socket = socket.socket(family, kind)
        except (OSError, UnicodeError) as error:  # a name longer than DNS has them is no text to it
            why = getattr(error, "strerror", None) or "no name of a machine"
            raise Refused(f"--host {host}: {why}; try 127.0.0.1") from error
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(address)
        except OSError as error:
            self._socket.close()
            raise Refused(_why(error, host, port, flag)) from error
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            self._socket.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    @property
    def address(self) -> str:
        """As services take it: HOST:PORT."""
        return _join(self.host, self.port)

    @property
    def url(self) -> str:
        """As a browser on this machine takes it."""
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{_join(here, self.port)}"


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _why(error: OSError, host: str, port: int, flag: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"{flag} {port}: something listens there already; "
            f"try another one, or {flag} 0 for any free port"
        )
    if error.errno == errno.EACCES:
        return f"{flag} {port}: only root may listen there; try {flag} 8080"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host} is no address of this machine; try 127.0.0.1 or 0.0.0.0"
    return f"{flag} {port}: {error.strerror}"
