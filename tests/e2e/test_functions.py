"""Functions on a cluster: what a user of `sanfran` sees, and what a user of kubectl does."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from statistics import quantiles

import pytest
from sanfran_cli.client import Client

from tests.e2e.kubectl import Refused, until
from tests.e2e.release import Release, says
from tests.e2e.visitor import Visitor

COLD_CALLS = int(os.environ.get("E2E_COLD_CALLS", "60"))


def test_create_call_update_call_delete(release: Release, visitor: Visitor) -> None:
    assert visitor.get("mine").status == 404
    release.deploy("mine", "module.exports = (req, res) => res.send(`Hello ${req.query.name}`);")
    assert visitor.get("mine", "?name=Vik").ok == "Hello Vik"
    release.update("mine", says("two"))
    assert visitor.get("mine").ok == "two"
    assert "mine" in release.cli("list")
    release.cli("delete", "mine")
    assert visitor.get("mine").status == 404


def test_what_a_function_logs_is_shown(release: Release, visitor: Visitor) -> None:
    release.deploy(
        "talker", "module.exports = (req, res) => { console.log('a word'); res.send(''); };"
    )
    visitor.get("talker")
    until(lambda: "a word" in release.cli("logs", "talker"), "the line in sanfran logs")


def test_code_that_does_not_load_is_told(release: Release, visitor: Visitor) -> None:
    release.deploy("unloadable", "require('no-such-module');")
    failed = visitor.get("unloadable")
    assert failed.status == 500
    assert "load_failed" in failed.body
    assert "no-such-module" in release.cli("get", "unloadable")


def test_cold_calls_find_a_warm_pod(
    release: Release, visitor: Visitor, tmp_path: Path, figures: list[str]
) -> None:
    """Functions never called before, one a second: as fast as idle pods come back from recycling."""
    names = [f"cold-{number}" for number in range(COLD_CALLS)]
    path = tmp_path / "cold.js"
    path.write_text(says("cold"))

    async def create() -> None:
        with release.api() as url:
            async with Client(url) as client:
                for name in names:
                    await client.create(name, path, {"idle_timeout": 1})

    asyncio.run(create())
    until(lambda: len(release.pods()) >= 3, "a pool of pods")
    visitor.get("mine")  # the routers' connections are there
    cold = visitor.calls(*(("GET", f"/fn/{name}") for name in names), pause=1.0)
    assert [one.ok for one in cold] == ["cold"] * len(names)
    warm = visitor.calls(*[("GET", f"/fn/{names[-1]}")] * 200)
    assert {one.status for one in warm} == {200}
    for what, answers in (("cold", cold), ("warm", warm)):
        cuts = quantiles([one.seconds * 1000 for one in answers], n=100)
        figures.append(
            f"{what} calls, client in the cluster: p50 {cuts[49]:.1f} ms, p90 {cuts[89]:.1f} ms, "
            f"p99 {cuts[98]:.1f} ms of {len(answers)}"
        )


def test_labels_of_pods_tell_the_truth_within_a_second(release: Release, visitor: Visitor) -> None:
    release.deploy("labelled", says("1"), "--idle-timeout", "5")
    assert visitor.get("labelled").ok == "1"
    time.sleep(1)
    [pod] = release.pods("labelled")
    assert pod["metadata"]["labels"]["sanfran.dev/version"] == "1"
    release.update("labelled", says("2"))
    time.sleep(1)
    [pod] = release.pods("labelled")
    assert pod["metadata"]["labels"]["sanfran.dev/version"] == "2"
    release.cli("delete", "labelled")
    time.sleep(1)
    assert release.pods("labelled") == []


def test_a_function_scales_with_its_load_and_to_zero(
    release: Release, visitor: Visitor, figures: list[str]
) -> None:
    release.deploy(
        "slow",
        "module.exports = (req, res) => setTimeout(() => res.send('1'), 500);",
        *("--concurrency", "2", "--max-scale", "3", "--idle-timeout", "3"),
    )
    answers = visitor.calls(*[("GET", "/fn/slow")] * 40, at_once=True)
    assert {one.status for one in answers} == {200}
    assert 2 <= len(release.pods("slow")) <= 3
    began = time.monotonic()
    until(lambda: not release.pods("slow"), "no pod of a function without traffic")
    figures.append(f"to zero pods in {time.monotonic() - began:.1f} s with an idle timeout of 3 s")
    assert visitor.get("slow").ok == "1"


def test_an_idle_pod_serves_the_next_function_without_being_restarted(
    release: Release, visitor: Visitor
) -> None:
    code = "globalThis.n = (globalThis.n ?? 0) + 1; module.exports = (req, res) => res.send(String(globalThis.n));"
    before = {pod["metadata"]["uid"] for pod in release.pods()}
    release.deploy("brief", code, "--idle-timeout", "1")
    for _ in range(3):
        assert visitor.get("brief").ok == "1"
        until(lambda: not release.pods("brief"), "the end of the idle activation")
    pods = release.pods()
    containers = [one for pod in pods for one in pod["status"].get("containerStatuses", [])]
    assert {one["restartCount"] for one in containers} == {0}
    assert before & {pod["metadata"]["uid"] for pod in pods}


def test_an_update_under_load_fails_no_request_and_shows_no_old_answer(
    release: Release, visitor: Visitor, figures: list[str]
) -> None:
    release.deploy("moving", says(0))
    with visitor.load("moving") as load:
        for number in range(1, 6):
            release.update("moving", says(number))
            load.floor("moving", number)
            time.sleep(0.5)
    load.assert_flawless()
    figures.append(f"5 updates under load: {load.answers} requests, none failed or old")


def test_function_code_finds_neither_a_key_nor_a_token(release: Release, visitor: Visitor) -> None:
    release.deploy(
        "thief",
        """
        const fs = require('fs');
        const found = [];
        const look = (folder, depth) => {
          let entries = [];
          try { entries = fs.readdirSync(folder, { withFileTypes: true }); } catch { return; }
          for (const entry of entries) {
            const path = `${folder === '/' ? '' : folder}/${entry.name}`;
            if (['/proc', '/sys', '/usr', '/dev'].includes(path)) continue;
            if (entry.isDirectory() && depth) look(path, depth - 1);
            else try {
              const text = fs.readFileSync(path, 'latin1');
              if (/PRIVATE\\x20KEY|^eyJhbGci/.test(text)) found.push(path);
            } catch { /* not readable: that is the point */ }
          }
        };
        module.exports = (req, res) => { look('/', 6); res.json(found); };
        """,
    )
    assert visitor.get("thief").ok == "[]"


def test_a_namespace_that_demands_pod_security_takes_all_of_it(release: Release) -> None:
    with pytest.raises(Refused, match="violates PodSecurity"):
        release.namespace.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "loose"},
                "spec": {"containers": [{"name": "loose", "image": "none"}]},
            }
        )
