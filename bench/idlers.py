"""Clients that connect, ask once, and then only keep their connections; in a process of its own.

Usage: python -m bench.idlers ADDRESS COUNT. It prints a line when all are connected and were answered. On a line
of input each asks again, and it prints how many were answered.
"""

from __future__ import annotations

import socket
import sys

from sanfran_common.config import split_host_port

from bench.load import get_requests


def answered(connection: socket.socket, request: bytes) -> bool:
    """Asks, and sees whether the answer is a good one."""
    connection.sendall(request)
    return connection.recv(65536).startswith(b"HTTP/1.1 200")


def main(address: str, count: int) -> None:
    """See above."""
    (request,) = get_requests(address, {}, 0)
    connections = []
    for _ in range(count):
        connections.append(socket.create_connection(split_host_port(address), timeout=10))
        if not answered(connections[-1], request):
            raise RuntimeError(f"connection {len(connections)} got no good answer")
    print("connected", flush=True)
    if sys.stdin.readline():
        print(sum(answered(one, request) for one in connections), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
