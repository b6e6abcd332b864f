"""Pages in a real browser that reaches nothing but this machine: the API's, and the demo's."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine import Engine, engine
from tests.parts import node_binary

REPOSITORY = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="npm has a Chromium for Linux on x86-64 only",
)

Visit = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("engine") / "data", "--demo", "--pool-size", "2") as one:
        yield one


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """Opens a page and takes steps there: see browser/visit.mjs."""
    subprocess.run([sys.executable, REPOSITORY / "hatch_build.py"], check=True, timeout=300)
    unpacked = tmp_path_factory.mktemp("chromium")
    environment = {
        **os.environ,
        "TMPDIR": str(unpacked),
        # Makes it bring the libraries that a machine without desktop does not have.
        "AWS_LAMBDA_JS_RUNTIME": "nodejs24.x",
    }

    def one(url: str, *steps: str) -> dict[str, Any]:
        done = subprocess.run(
            [node_binary(), REPOSITORY / "tests/browser/visit.mjs", url, *steps],
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    yield one
    for file in unpacked.glob("chromium"):  # 200 MB, and pytest keeps some runs' folders
        file.unlink()


def test_the_api_is_browsable_and_can_be_tried_without_internet(
    running: Engine, visit: Visit
) -> None:
    operation = "document.getElementById('operations-functions-listFunctions')"
    found = visit(
        f"{running.api}/api/v1/docs",
        "['functions-createFunction', 'functions-getLogs', 'service-getPool'].every(one => "
        "document.getElementById(`operations-${one}`))",
        click(f"{operation}.querySelector('.opblock-summary-control')"),
        click(f"{operation}.querySelector('.try-out__btn')"),
        click(f"{operation}.querySelector('.execute')"),
        f"{operation}.querySelector('.live-responses-table .response-col_status')",
    )
    assert found["errors"] == []
    assert "No operations defined" not in found["text"]
    # What the engine answered to the page.
    assert '"name": "websocket"' in found["text"]
    assert found["hosts"] == [running.api.removeprefix("http://")]


def test_the_page_of_the_websocket_demo_talks_to_its_function(
    running: Engine, visit: Visit
) -> None:
    found = visit(
        f"{running.url}/fn/websocket",
        r"/guest \d+ came, now there are \d+/.test(document.body.innerText)",
    )
    assert found["errors"] == []
    assert found["hosts"] == [running.url.removeprefix("http://")]


def click(element: str) -> str:
    """A step: true once the element was there and was clicked."""
    return f"(one => one ? (one.click(), true) : false)({element})"
