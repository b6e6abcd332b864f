"""A load generator in a process of its own: keep-alive connections, one request at a time each.

It learns the length of the answer from the first one and then only counts bytes, so that it
costs less than what it measures. Usage: python -m bench.load '{"address": "127.0.0.1:8080", ...}', see `load`.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import cast

import uvloop
from sanfran_common.config import split_host_port

from bench.figures import percentile


class Connection(asyncio.Protocol):
    """Sends the next request as soon as the answer is whole."""

    def __init__(self, requests: Iterator[bytes], length: int, until: float) -> None:
        self.requests = requests
        self.length = length
        self.left = length
        self.until = until
        self.took: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._send()

    def _send(self) -> None:
        self.sent_at = time.perf_counter()
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left > 0:
            return
        now = time.perf_counter()
        self.took.append(now - self.sent_at)
        if self.left < 0 or not self.ok(data):
            self.done.set_exception(RuntimeError(f"another answer than the first: {data[:200]!r}"))
        elif now < self.until:
            self.left = self.length
            self._send()
            return
        self.transport.close()

    def ok(self, data: bytes) -> bool:
        """Whether an answer that came in one piece is a good one."""
        return len(data) < self.length or data.startswith(b"HTTP/1.1 200")

    def connection_lost(self, exc: Exception | None) -> None:
        if self.done.done():
            return
        if time.perf_counter() < self.until:
            self.done.set_exception(exc or ConnectionError("closed by the server"))
        else:
            self.done.set_result(None)


def function_name(number: int) -> str:
    """Of a function among many; all are of one length, so that their answers are, too."""
    return f"function-{number:06}"


def get_requests(address: str, headers: dict[str, str], functions: int) -> list[bytes]:
    """A GET for each of many functions; for 0 one for `hello`."""
    names = [function_name(number) for number in range(functions)] or ["hello"]
    return [get_request(address, f"/fn/{name}?name=Vik", headers) for name in names]


def get_request(address: str, target: str, headers: dict[str, str]) -> bytes:
    """The bytes of a GET."""
    lines = [f"GET {target} HTTP/1.1", f"Host: {address}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def answer_length(address: str, request: bytes) -> int:
    """Bytes of the second answer: the first may carry what only a first one has."""
    reader, writer = await asyncio.open_connection(*split_host_port(address))
    length = 0
    for _ in range(2):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = head.lower().split(b"\r\n")
        size = next(int(f.split(b":")[1]) for f in fields if f.startswith(b"content-length:"))
        await reader.readexactly(size)
        length = len(head) + size
    writer.close()
    await writer.wait_closed()
    return length


async def load(
    address: str,
    seconds: float,
    headers: dict[str, str],
    connections: int = 16,
    functions: int = 0,
) -> dict[str, float]:
    """Sends requests for some seconds and says how it went.

    Args:
        address: host:port.
        headers: of each request.
        functions: how many are called in turn; 0: only `hello`.
    """
    requests = get_requests(address, headers, functions)
    length = await answer_length(address, requests[0])
    gc.disable()
    turn = itertools.cycle(requests)
    host, port = split_host_port(address)
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    made = [
        (
            await loop.create_connection(
                lambda: Connection(turn, length, began + seconds), host, port
            )
        )[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(one.done for one in made))
    elapsed = time.perf_counter() - began
    took = sorted(one for connection in made for one in connection.took)
    return {
        "requests": len(took),
        "per_second": len(took) / elapsed,
        "p50_ms": percentile(took, 50) * 1000,
        "p99_ms": percentile(took, 99) * 1000,
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(load(**json.loads(sys.argv[1])))))
