"""invoke and logs, through a whole engine."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import SANFRAN, Engine, engine

ECHO = """module.exports = async (req, res) => {
  let body = '';
  for await (const part of req.rawBody ? [req.rawBody] : req) body += part;
  console.log(`called with ${req.method}`);
  res.status(Number(req.query.status ?? 200)).json({
    method: req.method, url: req.url, type: req.headers['content-type'], mine: req.headers.mine, body,
  });
};"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("engine") / "data", "--pool-size", "1") as one:
        one.deploy("echo", ECHO)
        yield one


@pytest.mark.parametrize(
    ("args", "seen"),
    [
        ([], {"method": "GET", "url": "/", "body": ""}),
        (["?a=1"], {"url": "/?a=1"}),
        (["a/b?c=d"], {"url": "/a/b?c=d"}),
        (["/a"], {"url": "/a"}),
        (
            ["", "-d", '{"a": 1}'],
            {"method": "POST", "type": "application/json", "body": '{"a": 1}'},
        ),
        (["-d", "words"], {"type": "text/plain; charset=utf-8", "body": "words"}),
        (["-d", "@body.json", "-X", "PUT"], {"method": "PUT", "type": "application/json"}),
        (["-d", "x", "-H", "Content-Type: a/b", "-H", "mine: 1"], {"type": "a/b", "mine": "1"}),
    ],
)
def test_a_call_is_sent_as_it_was_typed(
    running: Engine, args: list[str], seen: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "body.json").write_text("[]")
    args = [one.replace("@", f"@{tmp_path}/") for one in args]
    answer = json.loads(running.cli("invoke", "echo", *args).stdout)
    assert {key: answer.get(key) for key in seen} == seen


def test_an_error_status_is_exit_code_1_with_its_body_on_stderr(running: Engine) -> None:
    failed = running.cli("invoke", "echo", "?status=418", check=False)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("HTTP 418")
    assert '"method":"GET"' in failed.stderr
    unknown = running.cli("invoke", "nobody", check=False)
    assert unknown.returncode == 1
    assert "not_found" in unknown.stderr


def test_the_pool_is_shown_and_what_becomes_of_functions(running: Engine) -> None:
    running.cli("invoke", "echo")
    shown = running.cli("pool").stdout
    assert re.search(r"target +1, from 1 to 64: .* claims/s, a pod starts in", shown)
    assert re.search(r"start [12] +- +below_target +below the target of 1 +idle 0", shown)
    [pool] = json.loads(running.cli("pool", "--decisions", "1", "-o", "json").stdout)["controllers"]
    assert (pool["size"], len(pool["decisions"])) == (1, 1)
    listed = running.cli("list").stdout.splitlines()
    assert re.match(
        r"NAME +VERSION +UPDATED +PODS +IN FLIGHT +CALLS +LAST COLD START +URL", listed[0]
    )
    assert re.search(r"^echo +1 +\S+ \S+ +1 +\d+ +\d+ +\S+ \S+, \d+ ms +http", listed[1])
    assert "status.last_cold_start_ms" in running.cli("get", "echo").stdout


def test_logs_show_what_was_written_and_follow_what_comes(running: Engine) -> None:
    running.cli("invoke", "echo", "-X", "PATCH")
    with subprocess.Popen(
        [SANFRAN, "logs", "echo", "-f", "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SANFRAN_API": running.api},
    ) as following:
        assert following.stdout is not None
        for line in following.stdout:
            if json.loads(line)["text"] == "called with PATCH":
                break
        running.cli("invoke", "echo", "-X", "DELETE")
        for line in following.stdout:
            if json.loads(line)["text"] == "called with DELETE":
                break
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 130
        assert following.stderr is not None
        assert following.stderr.read() == ""
    assert "called with DELETE" in running.cli("logs", "echo", "--tail", "1").stdout


def test_lines_that_end_before_ctrl_c_are_said_to_have_ended(running: Engine) -> None:
    running.cli("invoke", "echo")
    with subprocess.Popen(
        [SANFRAN, "logs", "echo", "-f"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SANFRAN_API": running.api},
    ) as following:
        assert following.stdout is not None
        following.stdout.readline()
        os.kill(running.run["services"]["controller"]["pid"], signal.SIGKILL)
        _, errors = following.communicate(timeout=10)
    assert following.returncode == 1
    assert errors.startswith("Error: the lines ended: ")
