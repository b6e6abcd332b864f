"""A real api service, alone: what the commands talk to."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from click.testing import CliRunner
from sanfran_cli.main import main

PUBLIC = "http://127.0.0.1:9"  # nothing listens there
READY_SECONDS = 20.0


@contextmanager
def running_api(data: Path, *flags: str) -> Iterator[str]:
    """URL of an api service without controllers, while it runs."""
    with TemporaryDirectory(prefix="sanfran-") as run:
        told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        told.bind(f"{run}/notify")
        told.settimeout(READY_SECONDS)
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", "from sanfran_api.main import main; main()"),
                "--exit-with-stdin",
                *("--data", str(data), "--listen", "127.0.0.1:0"),
                *("--rpc-listen", f"unix:{run}/api.sock", "--public-url", PUBLIC),
                *flags,
            ],
            stdin=subprocess.PIPE,
            env={**os.environ, "NOTIFY_SOCKET": f"{run}/notify"},
        )
        try:
            lines = told.recv(4096).decode().splitlines()
            http = dict(line.split("=", 1) for line in lines)["X_SANFRAN_HTTP"]
            yield http if http.startswith("http") else f"http://{http}"
        finally:
            told.close()
            assert process.stdin is not None
            process.stdin.close()
            process.send_signal(signal.SIGTERM)
            process.wait(10)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an api service with an empty store and no controllers."""
    with running_api(tmp_path_factory.mktemp("api")) as url:
        yield url


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """A function's file."""
    path = tmp_path / "hello.js"
    path.write_text("module.exports = (req, res) => res.send('Hello');")
    return path


class Sanfran:
    """The command line, with the api service of this test."""

    def __init__(self, api: str) -> None:
        self.api = api

    def run(self, *args: str | Path) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        environ = {"SANFRAN_API": self.api}
        result = CliRunner().invoke(main, [str(one) for one in args], env=environ)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result.exit_code, result.stdout, result.stderr

    def text(self, *args: str | Path) -> str:
        """Standard output of what must succeed."""
        code, out, errors = self.run(*args)
        assert (code, errors) == (0, ""), (args, out, errors)
        return out

    def json(self, *args: str | Path) -> Any:
        """The same, as JSON."""
        return json.loads(self.text(*args, "-o", "json"))

    def refusal(self, *args: str | Path) -> str:
        """Standard error of what the service must refuse."""
        code, out, errors = self.run(*args)
        assert (code, out) == (1, ""), (args, out, errors)
        assert errors.startswith("Error: ")
        return errors


@pytest.fixture
def sanfran(api: str) -> Sanfran:
    return Sanfran(api)
