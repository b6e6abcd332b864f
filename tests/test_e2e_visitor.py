"""The client that the end-to-end suite runs in a cluster: it fails where it has to."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.e2e.visitor import SCRIPT


class Answers(BaseHTTPRequestHandler):
    """Says what `text` is; POST is refused, and /cut ends without an answer."""

    protocol_version = "HTTP/1.1"
    text = "1"

    def do_GET(self) -> None:
        if self.path == "/cut":
            self.close_connection = True
            return
        self._answer(200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(503)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(self.text)))
        self.end_headers()
        self.wfile.write(self.text.encode())

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def loading(address: str, path: str, method: str = "GET") -> Iterator[subprocess.Popen[str]]:
    """The script while it calls a path; stdin takes orders, stdout gives its account."""
    callers = [
        {"method": method, "path": path, "kept": kept, "pause": 0.005} for kept in (True, False)
    ]
    asked = {"address": address, "callers": callers, "seconds": 30}
    with subprocess.Popen(
        [sys.executable, str(Path(SCRIPT)), "load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == "begun"
        yield process
        process.stdin.close()


def account(process: subprocess.Popen[str], *orders: object) -> dict[str, object]:
    """Gives orders, then the end of standard input; returns what the script counted."""
    assert process.stdin is not None
    assert process.stdout is not None
    for order in orders:
        process.stdin.write(json.dumps(order) + "\n")
    process.stdin.close()
    found: dict[str, object] = json.loads(process.stdout.readline())
    return found


def test_right_answers_are_no_failures(address: str) -> None:
    with loading(address, "/fn/x") as process:
        told = account(process, {"/fn/x": 1}, "stop")
    assert told["failed"] == 0
    assert told["answers"] in range(2, 100_000)


@pytest.mark.parametrize(
    ("path", "method", "reason"),
    [("/fn/x", "POST", "503"), ("/cut", "GET", "RemoteDisconnected")],
)
def test_refused_and_cut_requests_are_failures(
    address: str, path: str, method: str, reason: str
) -> None:
    with loading(address, path, method) as process:
        told = account(process)
    assert told["failed"] == told["answers"]
    assert reason in str(told["failures"])


def test_an_answer_older_than_the_floor_is_a_failure(address: str) -> None:
    with loading(address, "/fn/x") as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps({"/fn/x": 2}) + "\n")
        process.stdin.flush()
        time.sleep(0.3)  # some requests with it
        told = account(process, "stop")
    assert told["failed"]
    assert "expected 2 or more" in str(told["failures"])
