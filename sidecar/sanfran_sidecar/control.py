"""The control socket: one connection from one process, JSON lines both ways (docs/contracts.md)."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from sanfran_sidecar.lines import LineReader

MAX_MESSAGE = 1 << 20
"""Bytes of one message; the longest is a log line or a stack trace."""

Message = dict[str, Any]


class ControlSocket:
    """Listens until the right process has connected, then carries its messages.

    Args:
        on_message: for each message, in order.
        on_end: once, when the connection is over; with what was wrong, or None for a plain end.
            Not called after `close`.
    """

    def __init__(
        self, on_message: Callable[[Message], None], on_end: Callable[[str | None], None]
    ) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._listener: asyncio.Server | None = None
        self._path: Path | None = None
        self._expected_pid: int | None = None
        self._transport: asyncio.Transport | None = None
        self._lines = LineReader(
            self._on_line,
            lambda _: self._fail("a message over the control socket has no end"),
            max_line=MAX_MESSAGE,
            pause=self._pause,
            resume=self._resume,
        )
        self._closed = False

    async def listen(self, path: Path, mode: int) -> None:
        """Opens the socket; `expect` must be called before the loop runs again after a launch.

        Args:
            mode: of the socket: who may connect.
        """
        self._path = path
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_unix_server(
            lambda: _Connection(self), str(path), backlog=8
        )
        path.chmod(mode)

    def expect(self, pid: int | None) -> None:
        """Only this process may connect, where the system tells who does; None: anyone may."""
        self._expected_pid = pid

    def send(self, message: Message) -> None:
        """Sends a message; after the end of the connection it goes nowhere."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Stops to listen and to talk."""
        self._closed = True
        self._lines.close()
        self._stop_listening()
        if self._transport is not None:
            self._transport.abort()

    def accept(self, transport: asyncio.Transport) -> bool:
        """Takes a connection, if it is the one awaited; then nothing else can connect."""
        if self._closed or self._transport is not None:
            return False
        pid = _peer_pid(transport)
        if pid is not None and self._expected_pid is not None and pid != self._expected_pid:
            return False  # another function's process that found the socket; keep listening
        self._transport = transport
        self._stop_listening()
        return True

    def received(self, data: bytes) -> None:
        """Takes bytes of the stream."""
        if not self._closed:
            self._lines.feed(data)

    def lost(self) -> None:
        """The connection is over."""
        if not self._closed:
            self._lines.finish()
        if not self._closed:  # by a last message that was none
            self._closed = True
            self._on_end(None)

    def _on_line(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if isinstance(message, dict):
            self._on_message(message)
        else:
            self._fail("what came over the control socket is no message")

    def _fail(self, why: str) -> None:
        self.close()
        self._on_end(why)

    def _pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            assert self._path is not None
            self._path.unlink(missing_ok=True)


class _Connection(asyncio.Protocol):
    """One connection; refused ones are closed unheard."""

    def __init__(self, control: ControlSocket) -> None:
        self._control = control
        self._accepted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)
        self._accepted = self._control.accept(stream)
        if not self._accepted:
            stream.abort()

    def data_received(self, data: bytes) -> None:
        if self._accepted:
            self._control.received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._accepted:
            self._control.lost()


def _peer_pid(transport: asyncio.Transport) -> int | None:
    """Who is at the other end, where the system says."""
    option = getattr(socket, "SO_PEERCRED", None)
    peer = transport.get_extra_info("socket")
    if option is None or peer is None:
        return None
    credentials = peer.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    return cast("int", struct.unpack("3i", credentials)[0])
