"""The chart's own test and its dashboard, held against the engine as it runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.chart.helm import CHART, ROOT, template
from tests.engine import Engine

METRICS = ["common", "router", "controller", "api"]


def declared() -> set[str]:
    """Names of metrics in the services' code, as they are scraped."""
    names: set[str] = set()
    for part in METRICS:
        for file in (ROOT / part).glob("sanfran_*/**/*.py"):
            code = file.read_text()
            for kind, name in re.findall(r'(Counter|Gauge|Histogram)\(\s*"(sanfran_\w+)"', code):
                ends = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket"]}[kind]
                names |= {f"{name}{end}" for end in ends}
    router = (ROOT / "router/sanfran_router/metrics.py").read_text()
    for suffix, kind in re.findall(r'"([a-z_]+)",\s*"(counter|gauge|histogram)"', router):
        names.add(f"sanfran_router_{suffix}{'_bucket' if kind == 'histogram' else ''}")
    return names


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    shown = {name for one in expressions for name in re.findall(r"sanfran_\w+", one)}
    assert shown
    assert shown - declared() == set()
    assert all(panel["description"] for panel in panels)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)


def test_the_dashboard_comes_as_grafana_looks_for_it() -> None:
    (held,) = (
        made
        for made in template(values="everything")
        if made["metadata"]["labels"].get("grafana_dashboard") == "1"
    )
    assert json.loads(held["data"]["sanfran.json"])["title"] == "SanFran"


def check(api: str, router: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, CHART / "files/check.py"], capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "API": api, "ROUTER": router, "PASSWORD": "open sesame"},
    )  # fmt: skip


def test_helm_test_makes_calls_changes_and_removes_a_function(tmp_path: Path) -> None:
    with Engine(tmp_path / "data") as engine:
        done = check(engine.api, engine.url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.findall(r"^ok: (.*)$", done.stdout, re.MULTILINE) == [
            "a function that does not exist is not found",
            "a function is made",
            "its first call is answered",
            "it gets new code",
            "the next call meets it",
            "it is removed",
            "and not found any more",
        ]
        assert engine.http.get(f"{engine.api}/api/v1/functions").json()["functions"] == []

        # A router that is none: the test fails, and leaves nothing.
        done = check(engine.api, engine.api)
        assert done.returncode == 1
        assert "FAILED: its first call is answered: expected 200" in done.stderr
        assert engine.http.get(f"{engine.api}/api/v1/functions").json()["functions"] == []
