"""An api service behind what ends TLS for it, with a CA that only this organisation knows."""

import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import pytest

from tests.certificates import Authority, pem_of, write

OURS = Authority("an organisation's CA")


class Front(ThreadingTCPServer):
    """Takes TLS, and passes on what is in it."""

    daemon_threads = True
    allow_reuse_address = True
    behind: tuple[str, int]
    context: ssl.SSLContext

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that do not believe us break off."""


class Passing(BaseRequestHandler):
    server: Front

    def handle(self) -> None:
        with (
            self.server.context.wrap_socket(self.request, server_side=True) as taken,
            socket.create_connection(self.server.behind) as on,
        ):
            back = threading.Thread(target=_pass, args=(on, taken))
            back.start()
            _pass(taken, on)
            back.join()


def _pass(source: socket.socket, to: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.fixture
def front(api: str, tmp_path: Path) -> Iterator[str]:
    write(tmp_path / "tls", pem_of(OURS.certificate), *OURS.issue("localhost"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls/tls.crt", tmp_path / "tls/tls.key")
    host, port = api.removeprefix("http://").split(":")
    with Front(("127.0.0.1", 0), Passing) as server:
        server.context = context
        server.behind = (host, int(port))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"https://localhost:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_private_ca_is_believed_when_its_file_is_named(
    sanfran: Any, front: str, hello: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sanfran.api = front
    refused = sanfran.refusal("list")
    assert "CERTIFICATE_VERIFY_FAILED" in refused
    assert "SSL_CERT_FILE" in refused
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls/ca.crt"))
    assert "hello is live, version 1" in sanfran.text("create", "hello", hello)
    assert [one["name"] for one in sanfran.json("list")] == ["hello"]
    sanfran.text("delete", "hello")


def test_a_ca_file_that_does_not_work_is_named(
    sanfran: Any, front: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sanfran.api = front
    for path, why in (
        (tmp_path / "nothing", "No such file"),
        (tmp_path / "tls/tls.key", "is no CA's certificate"),
    ):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        assert f"SSL_CERT_FILE: {path}: {why}" in sanfran.refusal("list")
    shutil.copy(tmp_path / "tls/ca.crt", tmp_path / "ca")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca"))
    assert sanfran.json("list") == []
