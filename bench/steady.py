"""A load generator with a timetable: it sends at a fixed rate, whatever the answers do (open loop).

A generator that waits for an answer before it sends again is slowed down by what it measures, and
hides the wait ("coordinated omission"). Here request number n is due at n / rate, and its latency
counts from then on, not from when it could be sent.

It is no event loop's Protocol, since event loops keep time in whole milliseconds, and would send bursts that
queue behind one another; `select` keeps it in microseconds. How late it sent, though a connection was free, is
its own fault, and told. Usage: python -m bench.steady '{"address": "127.0.0.1:8080", ...}', see `steady`.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import itertools
import json
import select
import selectors
import socket
import sys
import time
from collections import deque

from sanfran_common.config import split_host_port

from bench.figures import percentile
from bench.load import answer_length, get_requests

PR_SET_TIMERSLACK = 29


class Connection:
    """One request at a time; `due` is when that was to be sent."""

    __slots__ = ("due", "left", "socket")

    def __init__(self, address: str) -> None:
        self.socket = socket.create_connection(split_host_port(address))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = 0.0
        self.left = 0


def steady(
    address: str,
    rate: float,
    seconds: float,
    headers: dict[str, str],
    connections: int = 128,
    functions: int = 0,
) -> dict[str, float]:
    """Sends requests, evenly spread, and says how long their answers took.

    Args:
        address: host:port.
        rate: requests per second.
        headers: of each request.
        functions: how many are called in turn; 0: only `hello`.

    Raises:
        RuntimeError: an answer is not the expected one, or none came for a second.
    """
    requests = get_requests(address, headers, functions)
    length = asyncio.run(answer_length(address, requests[0]))
    turn = itertools.cycle(requests)
    free = deque(Connection(address) for _ in range(connections))
    selector = selectors.DefaultSelector()
    watched = selector.fileno()
    for one in free:
        selector.register(one.socket, selectors.EVENT_READ, one)
    exact_sleep()
    gc.disable()
    took: list[float] = []
    late: list[float] = []
    total, sent, held = int(rate * seconds), 0, False
    used = time.process_time()
    began = time.perf_counter() + 0.01
    while len(took) < total:
        now = time.perf_counter()
        due = began + sent / rate
        while sent < total and due <= now and free:
            one = free.popleft()
            one.due, one.left = due, length
            one.socket.send(next(turn))
            if not held:
                late.append(now - due)
            sent += 1
            due = began + sent / rate
            now = time.perf_counter()
        # While requests are due and no connection is free, they wait for the server, not for us.
        held = due <= now and (held or not free)
        pause = due - now if sent < total and free else 1.0
        if not select.select([watched], [], [], max(pause, 0.0))[0]:
            if pause == 1.0:
                raise RuntimeError("no answer for a second")
            continue
        for key, _ in selector.select(0):
            one = key.data
            data = one.socket.recv(65536)
            one.left -= len(data)
            if one.left == 0 and data:
                took.append(time.perf_counter() - one.due)
                free.append(one)
            if one.left < 0 or not data or (len(data) == length and data[9:12] != b"200"):
                raise RuntimeError(f"another answer than the first: {data[:200]!r}")
    elapsed = time.perf_counter() - began
    took.sort()
    late.sort()
    return {
        "per_second": total / elapsed,
        "p50_ms": percentile(took, 50) * 1000,
        "p99_ms": percentile(took, 99) * 1000,
        "worst_ms": took[-1] * 1000,
        "late_p50_ms": percentile(late, 50) * 1000,
        "late_p99_ms": percentile(late, 99) * 1000,
        "cpu": (time.process_time() - used) / elapsed,
    }


def exact_sleep() -> None:
    """Linux may wake a process up to 50 µs late to save power; see prctl(2), PR_SET_TIMERSLACK."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)


if __name__ == "__main__":
    print(json.dumps(steady(**json.loads(sys.argv[1]))))
