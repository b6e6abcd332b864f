"""Ways of writing a handler, through the whole engine: deployed as a user does, called over HTTP."""

import base64
import contextlib
import os
import shutil
import socket
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.engine import Engine, engine, until

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("engine") / "data", "--demo", "--pool-size", "2") as one:
        yield one


class WebSocket:
    """A client of RFC 6455, as far as short texts go."""

    def __init__(self, url: str, target: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.socket = socket.create_connection((parts.hostname, parts.port or 80), timeout=20)
        self.stream = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.status = self.stream.readline().split()[1]
        while self.stream.readline().strip():
            pass

    def send(self, text: str) -> None:
        data = text.encode()
        # Masked, as a client must; with zeros.
        self.socket.sendall(struct.pack("!BB4x", 0x81, 0x80 | len(data)) + data)

    def receive(self) -> tuple[int, bytes]:
        """One frame: its opcode and what is in it."""
        first, length = self.stream.read(2)
        return first & 0x0F, self.stream.read(length)


@contextlib.contextmanager
def websocket(url: str, target: str) -> Iterator[WebSocket]:
    client = WebSocket(url, target)
    with client.socket, client.stream:
        yield client


def test_two_windows_of_the_websocket_demo_hear_each_other_until_a_new_version_comes(
    running: Engine,
) -> None:
    page = running.http.get("/fn/websocket")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    with (
        websocket(running.url, "/fn/websocket?name=one") as one,
        websocket(running.url, "/fn/websocket?name=two") as two,
    ):
        assert one.status == two.status == b"101"
        assert two.receive()[1].startswith(b"two came")
        two.send("hello")
        heard = [one.receive()[1] for _ in range(3)]
        assert heard == [b"one came, now there are 1", b"two came, now there are 2", b"two: hello"]
        running.cli("update", "websocket", ROOT / "demo/websocket")
        for client in (one, two):
            while (frame := client.receive())[0] == 1:
                pass  # that the other one left
            assert frame == (8, struct.pack("!H", 1001))
    with websocket(running.url, "/fn/websocket") as again:
        assert again.receive() == (1, b"somebody came, now there are 1")


def _gone(path: Path) -> bool:
    return not path.exists()


def test_a_silent_websocket_outlives_the_timeouts_of_its_function(running: Engine) -> None:
    code = """
      exports.index = (req, res) => res.send(require('node:os').tmpdir());
      exports.upgrade = (req, socket) => {
        socket.write('HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n');
        socket.pipe(socket);
      };"""
    for name in ("talker", "twin"):
        running.deploy(name, code, "--timeout", "1", "--idle-timeout", "1")
    talker = running.http.get("/fn/talker").text
    with websocket(running.url, "/fn/talker") as client:
        assert client.status == b"101"
        for _ in range(2):  # meanwhile the idle twin is recycled
            twin = Path(running.http.get("/fn/twin").text)
            until(partial(_gone, twin), "the end of an idle pod")
        client.send("x")
        assert client.stream.read(7)[6:] == b"x"
        assert running.http.get("/fn/talker").text == talker


def test_an_upgrade_that_nobody_takes_is_a_plain_request(running: Engine) -> None:
    with websocket(running.url, "/fn/hello") as client:
        assert client.status == b"200"


def test_an_express_app_in_a_folder_with_its_packages(running: Engine, tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    # The runtime's own dependencies: Express and all that it needs.
    for package in (ROOT / "runtime/node_modules").iterdir():
        if not package.name.startswith((".", "@", "esbuild")):
            shutil.copytree(package, app / "node_modules" / package.name)
    (app / "package.json").write_text('{"main": "src/app.js"}')
    (app / "src").mkdir()
    (app / "src/app.js").write_text(
        "const express = require('express'); const app = express();"
        "app.post('/items/:id', express.json(), (req, res) => res.status(201).cookie('a', 'b').json("
        "  [req.params, req.body, req.baseUrl, req.originalUrl, req.protocol, req.signal.aborted]));"
        "module.exports = app;"
    )
    running.cli("create", "shop", app)
    answer = running.http.post("/fn/shop/items/7?x=1", json={"n": 1})
    assert answer.status_code == 201
    assert answer.headers["set-cookie"] == "a=b; Path=/"
    assert answer.json() == [
        {"id": "7"}, {"n": 1}, "/fn/shop", "/fn/shop/items/7?x=1", "http", False,
    ]  # fmt: skip
    assert "Cannot GET /fn/shop/nothing" in running.http.get("/fn/shop/nothing").text


def test_a_typescript_module_with_several_handlers(running: Engine) -> None:
    running.deploy(
        "typed",
        "type Req = { query: Record<string, string>; params: { handler?: string } };\n"
        "export const hello = (req: Req, res: any): void => res.json([req.query.name, req.params]);\n"
        "export async function fail(): Promise<never> { throw Object.assign(new Error('x'), { status: 418 }); }\n",
        suffix=".ts",
    )
    assert running.http.get("/fn/typed/hello?name=Vik").json() == ["Vik", {"handler": "hello"}]
    assert running.http.get("/fn/typed/fail").status_code == 418
    assert "it has: fail, hello" in running.http.get("/fn/typed").json()["error"]["message"]


def test_what_is_no_handler_is_a_load_error_that_says_what_was_found(running: Engine) -> None:
    running.deploy("wrong", "module.exports = { limit: 5 };")
    failed = running.http.get("/fn/wrong")
    assert failed.status_code == 500
    assert failed.json()["error"]["code"] == "load_failed"
    said = running.cli("get", "wrong").stdout
    assert "no function, only limit (number)" in said
    assert "a function may export: one function (req, res)" in said


def test_a_conditional_get_and_a_range_through_the_router(running: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "index.js").write_text(
        "module.exports = (req, res) => res.sendFile('page.html', { root: __dirname });"
    )
    (folder / "page.html").write_text("<p>hello</p>")
    running.cli("create", "files", folder)
    whole = running.http.get("/fn/files")
    assert whole.text == "<p>hello</p>"
    again = running.http.get("/fn/files", headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    part = running.http.get("/fn/files", headers={"Range": "bytes=3-7"})
    assert (part.status_code, part.text) == (206, "hello")
    assert part.headers["content-range"] == "bytes 3-7/12"
    head = running.http.head("/fn/files")
    assert (head.headers["content-length"], head.content) == ("12", b"")
