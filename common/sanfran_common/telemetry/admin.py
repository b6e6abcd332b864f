"""The admin port: `/metrics`, `/healthz`, `/readyz`.

Served from a thread of its own by the standard library's HTTP server, so that it answers while the
event loop is busy, and can say so: `/healthz` fails when the loop has not turned for a while.
"""

from __future__ import annotations

import asyncio
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol, Self

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from sanfran_common.config import join_host_port, split_host_port
from sanfran_common.telemetry.logs import get_logger

log = get_logger("admin")

HEARTBEAT = 1.0
"""Seconds between two signs of life of the event loop."""
CONNECTIONS_MOST = 32
"""Each holds a thread, for ten seconds at most; one more is closed at once."""
STALLED_AFTER = 10.0
"""Seconds without one until the process counts as hung; many times any pause that is normal."""


class Readiness(Protocol):
    """What the server needs to know of a `Lifecycle`."""

    is_ready: bool


class AdminServer:
    """Serves the admin port while its `async with` lasts. `address` has the real port."""

    def __init__(self, address: str, life: Readiness) -> None:
        self._listen = split_host_port(address)
        self._life = life
        self._beat = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self.address = address

    async def __aenter__(self) -> Self:
        self._server = _AdminHTTPServer(self._listen, _AdminHandler)
        self._server.answer = self.answer
        host, number = self._server.server_address[:2]
        self.address = join_host_port(str(host), int(number))
        # Daemonic, with a fast poll: a stop must not wait for a scraper.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="admin", daemon=True
        )
        self._thread.start()
        self._tick()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.to_thread(self._server.shutdown)
        self._server.server_close()
        self._thread.join()

    def _tick(self) -> None:
        self._beat = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(HEARTBEAT, self._tick)

    def answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a path."""
        if path == "/metrics":
            encode, content_type = choose_encoder(accept)
            return 200, content_type, encode(REGISTRY)
        if path == "/healthz":
            stalled = time.monotonic() - self._beat
            if stalled > STALLED_AFTER:
                return 503, "text/plain", f"event loop stalled for {stalled:.0f} s\n".encode()
            return 200, "text/plain", b"ok\n"
        if path == "/readyz":
            ready = self._life.is_ready
            return (200, "text/plain", b"ok\n") if ready else (503, "text/plain", b"not ready\n")
        return 404, "text/plain", b"try /metrics, /healthz or /readyz\n"


class _AdminHTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    answer: Callable[[str, str], tuple[int, str, bytes]]

    def __init__(
        self, listen: tuple[str, int], handler: Callable[..., BaseHTTPRequestHandler]
    ) -> None:
        if ":" in listen[0]:
            self.address_family = socket.AF_INET6
        self._places = threading.BoundedSemaphore(CONNECTIONS_MOST)
        super().__init__(listen, handler)

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the name service who this is, and waits for its answer.
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that left is no concern of ours; anything else is told in one event."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            log.error("admin request failed", exc_info=error)


class _AdminHandler(BaseHTTPRequestHandler):
    server: _AdminHTTPServer
    timeout = 10  # seconds for a slow scraper

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        status, content_type, body = self.server.answer(path, self.headers.get("Accept", ""))
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not worth a log line."""
