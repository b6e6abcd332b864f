"""A load generator in a process of its own: keep-alive connections, one request at a time each.

It learns the length of the answer from the first one and then only counts bytes, so that it
costs less than what it measures. Usage: python -m bench.load URL CONNECTIONS SECONDS
"""

import asyncio
import json
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import uvloop

from bench.figures import percentile


class Connection(asyncio.Protocol):
    """Sends the same request again as soon as the answer is whole."""

    def __init__(self, request: bytes, length: int, until: float) -> None:
        self.request = request
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
        self.transport.write(self.request)

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


async def answer_length(host: str, port: int, request: bytes) -> int:
    """Bytes of the second answer: the first may carry what only a first one has."""
    reader, writer = await asyncio.open_connection(host, port)
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
    url: str, connections: int, seconds: float, headers: dict[str, str]
) -> dict[str, float]:
    """Loads a URL for some seconds and says how it went."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    length = await answer_length(host, port, request)
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    made = [
        (
            await loop.create_connection(
                lambda: Connection(request, length, began + seconds), host, port
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
    url, connections, seconds, headers = sys.argv[1:5]
    result = uvloop.run(load(url, int(connections), float(seconds), json.loads(headers)))
    print(json.dumps(result))
