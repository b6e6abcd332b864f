"""The whole engine with every gRPC call over TCP and mutual TLS, as between machines."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
from sanfran_common.rpc.certificates import load
from sanfran_common.rpc.roles import CALLERS, Role

from tests.certificates import Authority
from tests.engine import until

HELLO = b"module.exports = (req, res) => res.send('Hello ' + req.query.name)\n"
STOP_TIMEOUT = 30.0
PAGE = Path(__file__).parents[1] / "docs/tls.md"


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return f"127.0.0.1:{held.getsockname()[1]}"


@contextmanager
def service(module: str, *flags: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = f"from {module} import main; main()"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", command, "--log-format", "json", "--exit-with-stdin", *flags],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT)
        finally:
            process.kill()
            process.wait()


class TlsEngine:
    """All services as processes, two controllers among them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.authority = Authority()
        self.http, self.rest, self.api, self.pods = (free_address() for _ in range(4))
        self.controllers = [free_address(), free_address()]
        self.every_controller = ",".join(self.controllers)

    def folder(self, name: str, role: str) -> str:
        return self.authority.folder(self.path / f"{name}.tls", role)

    def start(self, stack: ExitStack) -> None:
        data = ("--data", f"{self.path}/store", "--listen", self.rest, "--rpc-listen", self.api)
        self._add(stack, "api", "api", *data, "--controllers", self.every_controller)
        folders = ("--run-dir", f"{self.path}/run", "--cache-dir", f"{self.path}/cache")
        tcp = ("--listen", self.pods, "--sidecar-listen", "tcp")
        self._add(stack, "sidecar.host", "sidecar", *tcp, *folders, "--api", self.api)
        for number, address in enumerate(self.controllers):
            ways = ("--rpc-listen", address, "--api", self.api, "--pods", self.pods)
            name = f"c{number}"
            flags = ("--name", name, *ways, "--pool-size", "2", "--idle-timeout", "60")
            self._add(stack, "controller", "controller", *flags, name=name)
        listen = ("--listen", self.http, "--controllers", self.every_controller)
        self._add(stack, "router", "router", *listen)

    def _add(self, stack: ExitStack, module: str, role: str, *flags: str, name: str = "") -> None:
        name = name or role
        tls = self.folder(name, role)
        log = self.path / f"{name}.log"
        whole = f"sanfran_{module}.main"
        stack.enter_context(service(whole, "--tls-dir", tls, *flags, log=log))

    def logs(self) -> str:
        return "".join(one.read_text() for one in self.path.glob("*.log"))

    def create(self, name: str) -> bool:
        """Whether it worked: the api may not be there yet."""
        try:
            made = httpx.post(
                f"http://{self.rest}/api/v1/functions",
                data={"name": name},
                files={"file": ("hello.js", HELLO)},
                timeout=30,
            )
        except httpx.TransportError:
            return False
        return made.status_code in (201, 409)

    def every_controller_tells(self) -> bool:
        """Each has a second for it, which a busy machine may not give."""
        told = httpx.get(f"http://{self.rest}/api/v1/pool", timeout=30).json()
        answered = {pool["address"] for pool in told.get("controllers", [])}
        return answered == set(self.controllers)

    def answers(self, name: str) -> bool:
        try:
            return self.call(name) == "Hello Vik"
        except httpx.TransportError:
            return False

    def call(self, name: str) -> str:
        return httpx.get(f"http://{self.http}/fn/{name}?name=Vik", timeout=30).text


@pytest.fixture
def short_path() -> Iterator[Path]:
    """For Unix sockets, whose paths have 108 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="sf-") as path:
        yield Path(path)


@pytest.fixture
def tls_engine(short_path: Path) -> Iterator[TlsEngine]:
    engine = TlsEngine(short_path)
    with ExitStack() as stack:
        engine.start(stack)
        yield engine


def test_functions_are_made_and_answer_with_tls_between_all_services(tls_engine: TlsEngine) -> None:
    until(lambda: tls_engine.create("hello-0"), "a function is made", 60)
    until(lambda: tls_engine.answers("hello-0"), "it answers", 60)
    # Enough names for both controllers to be some function's home.
    for number in range(1, 8):
        name = f"hello-{number}"
        assert tls_engine.create(name)
        until(partial(tls_engine.answers, name), f"{name} answers", 60)
    until(tls_engine.every_controller_tells, "every controller tells of its pool", 60)
    logs = f"http://{tls_engine.rest}/api/v1/functions/hello-1/logs"
    assert httpx.get(logs, timeout=30).status_code == 200
    assert "connection refused" not in tls_engine.logs()
    assert "may not be called by" not in tls_engine.logs()


@pytest.mark.parametrize("module", ["api", "controller", "sidecar", "sidecar.host", "router"])
def test_a_service_with_another_roles_certificate_does_not_start(
    tmp_path: Path, short_path: Path, module: str
) -> None:
    role = module.partition(".")[0]
    other = "router" if role != "router" else "api"
    folder = Authority().folder(tmp_path / "tls", other)
    flags = ["--tls-dir", folder]
    if module == "api":
        flags += ["--data", str(tmp_path / "data")]
    if role == "sidecar":
        flags += ["--run-dir", str(short_path / "run"), "--cache-dir", str(tmp_path / "cache")]
    if module == "router":
        flags += ["--listen", "127.0.0.1:0"]
    done = subprocess.run(
        [sys.executable, "-c", f"from sanfran_{module}.main import main; main()", *flags],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    text = done.stdout + done.stderr
    assert f"--tls-dir {folder}: tls.crt: is for {other}.sanfran.internal" in text
    assert f"carries the DNS name {role}.sanfran.internal" in text


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_the_commands_of_the_page_make_certificates_that_work(tmp_path: Path) -> None:
    block = re.search(r"```sh\n(mkdir .*?)```", PAGE.read_text(), re.DOTALL)
    assert block is not None
    subprocess.run(
        ["bash", "-euc", block[1]], cwd=tmp_path, check=True, capture_output=True, timeout=60
    )
    for role in Role:
        assert load(tmp_path / role, role) is not None


def test_the_page_says_who_may_call_whom() -> None:
    told: dict[str, set[str]] = {}
    rows = re.findall(r"^\| ([a-z, ]+) \| (.+) \| ([a-z, ]+) \|$", PAGE.read_text(), re.MULTILINE)
    services = {
        "api": "Api",
        "controller": "Controller",
        "sidecar": "Sidecar",
        "pod host": "PodHost",
    }
    for names, methods, callers in rows:
        for name in names.split(", "):
            for method in re.findall("`([A-Z][A-Za-z]+)`", methods) or ["*"]:
                told[f"/sanfran.v1.{services.get(name, name)}/{method}"] = set(callers.split(", "))
    for path, callers in CALLERS.items():
        if path.startswith("/sanfran.v1.") and callers:
            every = path.rpartition("/")[0] + "/*"
            assert told.get(path, told.get(every)) == {str(role) for role in callers}, path
