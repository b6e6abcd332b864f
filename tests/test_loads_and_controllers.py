"""A controller that ends in the middle of a slow load, as processes: POSTs that wait for it are not lost."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.engine import Engine, engine, until

SLOW = """
const {{ appendFileSync }} = require('node:fs');
appendFileSync('{marks}/loads', process.pid + '\\n');
const until = Date.now() + {ms};
while (Date.now() < until);  // nothing is held back by it: requests come later, and wait in the system
module.exports = (req, res) => {{
  appendFileSync('{marks}/runs', req.body + '\\n');
  setTimeout(() => res.send(String(process.pid)), 150);
}};
"""
POSTS = 6


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("engine") / "data", "--pool-size", "2") as one:
        yield one


class Posts:
    """Some at once, each on a thread of its own."""

    def __init__(self, running: Engine, name: str) -> None:
        self._url = f"{running.url}/fn/{name}"
        self.answers: list[tuple[int, str]] = []
        self._threads = [
            threading.Thread(target=self._post, args=(str(number),)) for number in range(POSTS)
        ]
        for thread in self._threads:
            thread.start()

    def _post(self, body: str) -> None:
        answer = httpx.post(
            self._url, content=body, headers={"content-type": "text/plain"}, timeout=30
        )
        self.answers.append((answer.status_code, answer.text))

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=lambda end: end.name)
@pytest.mark.parametrize("ms", [250, 5000])
def test_posts_that_wait_for_a_load_outlast_its_controller(
    running: Engine, tmp_path: Path, end: signal.Signals, ms: int
) -> None:
    name = f"slow-{ms}-{end.name.lower()}"
    running.deploy(name, SLOW.format(marks=tmp_path, ms=ms))
    former = running.service_pid("controller")
    posts = Posts(running, name)
    until((tmp_path / "loads").exists, "a load")
    os.kill(former, end)
    posts.join()
    assert [status for status, _ in posts.answers] == [200] * POSTS, posts.answers
    runs = Counter((tmp_path / "runs").read_text().split())
    assert runs == {str(number): 1 for number in range(POSTS)}
    until(lambda: running.service_pid("controller") != former, "the next controller")
    # It has taken the load over, and nobody has loaded the function once more.
    (process,) = (tmp_path / "loads").read_text().split()
    assert {text for _, text in posts.answers} == {process}
    assert running.http.post(f"/fn/{name}", content="after").text == process
