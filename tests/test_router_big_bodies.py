"""Bodies of gigabytes pass a router process under flow control, in little memory."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Protocol

import pytest

from tests.parts import router
from tests.peers import Functions, memory, peak_memory

MB = 1 << 20
GB = 1 << 30
PERIOD = MB + 7
"""Of what is sent: no buffer's size divides it, so that a piece lost or sent twice shifts the rest."""
PATTERN = memoryview(random.Random(3).randbytes(PERIOD))
LOOKED_AT = 64
"""Bytes of each piece that are compared."""
BURST, STALL = 256 * MB, 0.05
"""What a slow reader takes at once, and the seconds that it then pauses."""
PATIENCE = 60.0
"""Seconds after which a send or a read that got nowhere is a failure."""


class Sent:
    """How far a sender has come."""

    def __init__(self) -> None:
        self.bytes = 0


class Framing(Protocol):
    """How a body's end is told."""

    def announce(self, size: int) -> bytes: ...

    def send(self, end: socket.socket, size: int, sent: Sent) -> None: ...

    def read(self, source: BufferedReader, size: int, pause: Callable[[int], None]) -> None: ...


class ByLength:
    """Content-Length."""

    def announce(self, size: int) -> bytes:
        return b"Content-Length: %d\r\n" % size

    def send(self, end: socket.socket, size: int, sent: Sent) -> None:
        while sent.bytes < size:
            at = sent.bytes % PERIOD
            sent.bytes += end.send(PATTERN[at : at + size - sent.bytes])

    def read(self, source: BufferedReader, size: int, pause: Callable[[int], None]) -> None:
        read_pattern(source, 0, size, pause)


class ByChunks:
    """Transfer-Encoding: chunked, with an extension on each chunk."""

    def announce(self, size: int) -> bytes:
        return b"Transfer-Encoding: chunked\r\n"

    def send(self, end: socket.socket, size: int, sent: Sent) -> None:
        while sent.bytes < size:
            piece = PATTERN[: size - sent.bytes]
            end.sendall(b"%x;a=b\r\n" % len(piece))
            end.sendall(piece)
            end.sendall(b"\r\n")
            sent.bytes += len(piece)
        end.sendall(b"0\r\n\r\n")

    def read(self, source: BufferedReader, size: int, pause: Callable[[int], None]) -> None:
        position = 0
        while length := int(source.readline().partition(b";")[0], 16):
            read_pattern(source, position, length, pause)
            position += length
            assert source.read(2) == b"\r\n"
        assert source.readline() == b"\r\n"
        assert position == size


def read_pattern(
    source: BufferedReader, position: int, length: int, pause: Callable[[int], None]
) -> None:
    """Reads the next part of the body, and looks at where its pieces come from."""
    buffer = memoryview(bytearray(MB))
    end = position + length
    while position < end:
        got = source.readinto1(buffer[: end - position])
        assert got, f"ended after {position} bytes"
        at = position % PERIOD
        wanted = PATTERN[at : at + min(got, LOOKED_AT)]
        assert buffer[: len(wanted)] == wanted
        position += got
        pause(position)


def stalling() -> Callable[[int], None]:
    """A reader's pauses: it takes a burst, and then nothing for a while."""
    bursts = 0

    def pause(position: int) -> None:
        nonlocal bursts
        if position // BURST > bursts:
            bursts = position // BURST
            time.sleep(STALL)

    return pause


def steady(position: int) -> None:
    """A reader without pauses."""


def reading(end: socket.socket) -> BufferedReader:
    return BufferedReader(end.makefile("rb", buffering=0), MB)


def read_head(source: BufferedReader) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = source.readline()
        assert line, "ended within the head"
        head += line
    return head


class Both:
    """A pod that serves one request, and the client that sends it, in threads: they must not be what
    is slow.

    Args:
        buffers: bytes of each socket's buffers in the kernel; 0: as the kernel likes.
    """

    def __init__(self, framing: Framing, size: int, buffers: int = 0) -> None:
        self.framing = framing
        self.size = size
        self.sent = Sent()
        self._listener = self._socket(buffers)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._client = self._socket(buffers)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    @staticmethod
    def _socket(buffers: int) -> socket.socket:
        end = socket.socket()
        if buffers:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
        end.settimeout(PATIENCE)
        return end

    async def pass_through(
        self, address: str, direction: str, pause: Callable[[int], None] = steady
    ) -> None:
        """One body through the router at the address, read with the pauses."""
        host, port = address.split(":")
        pod, client = {
            "up": (self._receive_up, self._send_up),
            "down": (self._send_down, self._receive_down),
        }[direction]
        with self._listener, self._client:
            self._client.connect((host, int(port)))
            await asyncio.gather(asyncio.to_thread(pod, pause), asyncio.to_thread(client, pause))

    def _send_up(self, _: Callable[[int], None]) -> None:
        head = b"POST /fn/hello HTTP/1.1\r\nHost: test\r\n%b\r\n"
        self._client.sendall(head % self.framing.announce(self.size))
        self.framing.send(self._client, self.size, self.sent)
        with reading(self._client) as source:
            assert read_head(source).startswith(b"HTTP/1.1 200 ")

    def _receive_up(self, pause: Callable[[int], None]) -> None:
        end, _ = self._listener.accept()
        end.settimeout(PATIENCE)
        with end, reading(end) as source:
            if b"\r\nexpect:" in read_head(source).lower():
                end.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.framing.read(source, self.size, pause)
            end.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def _send_down(self, _: Callable[[int], None]) -> None:
        end, _address = self._listener.accept()
        end.settimeout(PATIENCE)
        with end, reading(end) as source:
            read_head(source)
            end.sendall(b"HTTP/1.1 200 OK\r\n%b\r\n" % self.framing.announce(self.size))
            self.framing.send(end, self.size, self.sent)

    def _receive_down(self, pause: Callable[[int], None]) -> None:
        self._client.sendall(b"GET /fn/hello HTTP/1.1\r\nHost: test\r\n\r\n")
        with reading(self._client) as source:
            assert read_head(source).startswith(b"HTTP/1.1 200 ")
            self.framing.read(source, self.size, pause)


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize(
    ("framing", "size"),
    [(ByLength(), 4 * GB), (ByChunks(), GB)],
    ids=["4-gb-length", "1-gb-chunks"],
)
async def test_gigabytes_pass_a_slow_reader_in_little_memory(
    tmp_path: Path, framing: Framing, size: int, direction: str
) -> None:
    both = Both(framing, size)
    controller = Functions({"hello": both.address}, timeout=600)
    async with router(controller, tmp_path) as routing:
        before = memory(routing.pid)
        await both.pass_through(routing.address, direction, stalling())
        assert both.sent.bytes == size
        assert peak_memory(routing.pid) - before < 32 * MB


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_reader_that_stops_stops_the_sender_until_it_goes_on(
    tmp_path: Path, direction: str
) -> None:
    both = Both(ByLength(), 128 * MB, buffers=65536)
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_at_first(position: int) -> None:
        if not go_on.is_set():
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(PATIENCE)

    async with router(Functions({"hello": both.address}), tmp_path) as routing:
        before = memory(routing.pid)
        passing = asyncio.create_task(both.pass_through(routing.address, direction, stop_at_first))
        try:
            stopped_at = await standstill(both.sent)
            # In the kernel's buffers of both connections, and a little in the router.
            assert 0 < stopped_at < 24 * MB
            assert peak_memory(routing.pid) - before < 8 * MB
        finally:
            go_on.set()
            await passing
    assert both.sent.bytes == 128 * MB


async def standstill(sent: Sent) -> int:
    """Where the sender has come to when it has not moved for a while."""
    last, since = -1, 0
    while not (last > 0 and since >= 10):
        since = since + 1 if sent.bytes == last else 0
        last = sent.bytes
        await asyncio.sleep(0.05)
    return last
