"""Sends or takes one big body, in a process of its own.

Usage: python -m bench.stream '{"address": "127.0.0.1:8080", ...}', see `stream`.
"""

from __future__ import annotations

import json
import socket
import sys
import time

from sanfran_common.config import split_host_port

PIECE = 1 << 18


def stream(address: str, headers: dict[str, str], upload: bool, size: int) -> dict[str, float]:
    """Streams.

    Args:
        address: host:port of a function as `router_streams.CODE` is.
        upload: send the body; else take it.
        size: its bytes.

    Returns:
        The seconds from the first byte sent to the last one received.

    Raises:
        RuntimeError: it did not arrive whole.
    """
    method = "POST" if upload else "GET"
    lines = [f"{method} /fn/hello?bytes={size} HTTP/1.1", f"Host: {address}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {size}"] if upload else []
    piece = memoryview(bytearray(PIECE))
    with socket.create_connection(split_host_port(address), timeout=60) as connection:
        began = time.perf_counter()
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        if upload:
            for at in range(0, size, PIECE):
                connection.sendall(piece[: size - at])
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(65536)
            if not data:
                raise RuntimeError(f"closed in the head {head!r}")
            head += data
        head, _, body = head.partition(b"\r\n\r\n")
        got = len(body)
        while count := connection.recv_into(piece):
            got += count
            if upload:
                body += piece[:count]
    if upload:
        got = int(body) if body.isdigit() else -1
    if not head.startswith(b"HTTP/1.1 200") or got != size:
        raise RuntimeError(f"{got} of {size} bytes, after {head!r}")
    return {"seconds": time.perf_counter() - began}


if __name__ == "__main__":
    print(json.dumps(stream(**json.loads(sys.argv[1]))))
