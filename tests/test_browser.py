"""Pages in a real browser that reaches nothing but this machine: the API's, and the demo's."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import Engine, engine

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")

BUDGET = 10_000
"""Milliseconds of the page's own time, which passes as fast as nothing is to be waited for."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("engine") / "data", "--demo", "--pool-size", "2") as one:
        yield one


def shown(url: str, profile: Path) -> str:
    """The page as it stands when its scripts have run."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",  # which does not work for root
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={profile}",
            f"--virtual-time-budget={BUDGET}",
            "--dump-dom",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    return done.stdout


def test_the_api_is_browsable_without_internet(running: Engine, tmp_path: Path) -> None:
    page = shown(f"{running.api}/api/v1/docs", tmp_path)
    found = set(re.findall(r'id="operations-([a-z]+-[A-Za-z]+)"', page))
    assert {"functions-createFunction", "functions-getLogs", "service-getPool"} <= found
    assert "Failed to load API definition" not in page


def test_the_page_of_the_websocket_demo_talks_to_its_function(
    running: Engine, tmp_path: Path
) -> None:
    # The page's time does not stand still for a WebSocket, as it does for requests: on a busy machine it
    # may be over before the connection is there.
    page = ""
    for attempt in range(8):
        page = shown(f"{running.url}/fn/websocket", tmp_path / str(attempt))
        if re.search(r"<li>guest \d+ came, now there are \d+</li>", page):
            return
    pytest.fail(f"nobody came: {page}")
