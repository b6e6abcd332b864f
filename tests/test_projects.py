"""The way of a user with a project: init, deploy, call; with a build, against a registry on loopback."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import SANFRAN, Engine, engine
from tests.npm_registry import NpmRegistry

PACKAGES = Path(__file__).parents[1] / "runtime/node_modules"
"""Has Express 5, which the runtime's own tests compare with."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("projects")
    config = folder / "npmrc"
    config.write_text("fetch-retries=0\n")
    with NpmRegistry() as registry, pytest.MonkeyPatch.context() as patch:
        registry.add_installed(PACKAGES)
        patch.setenv("SANFRAN_API_NPM_REGISTRY", registry.url)
        patch.setenv("SANFRAN_API_NPM_CONFIG", str(config))
        with engine(folder / "data", "--pool-size", "1") as one:
            yield one


def sanfran(running: Engine, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "SANFRAN_API": running.run["api"]}
    return subprocess.run(
        [SANFRAN, *args], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


CALLS: dict[str, dict[str, dict[str, object]]] = {
    "js": {"?name=Vik": {"hello": "Vik", "greeting": "Hello", "path": "/"}},
    "ts": {"/a": {"hello": "World", "greeting": "Hello", "path": "/a"}},
    "express": {"?name=Vik": {"hello": "Vik"}, "/items/7": {"item": "7"}},
    "multi": {"-hello": {"hello": "World", "stage": "test"}, "-report/size": {"size": 2}},
}


@pytest.mark.parametrize("template", CALLS)
def test_a_first_project_answers(running: Engine, tmp_path: Path, template: str) -> None:
    name = f"first-{template}"
    assert sanfran(running, tmp_path, "init", name, "--template", template).returncode == 0
    folder = tmp_path / name
    done = sanfran(running, folder, "deploy")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "created" in done.stdout
    for path, answer in CALLS[template].items():
        assert running.http.get(f"/fn/{name}{path}").json() == answer
    again = sanfran(running, folder, "deploy")
    assert {line.split()[0] for line in again.stdout.splitlines()} == {"unchanged"}
    if template == "express":
        assert "added" in done.stderr  # what npm said, as it came


def test_a_build_that_fails_leaves_the_former_version(running: Engine, tmp_path: Path) -> None:
    sanfran(running, tmp_path, "init", "broken", "--template", "js")
    assert sanfran(running, tmp_path / "broken", "deploy").returncode == 0
    package = {"main": "index.js", "dependencies": {"is-nowhere": "1.0.0"}}
    (tmp_path / "broken/package.json").write_text(json.dumps(package))
    failed = sanfran(running, tmp_path / "broken", "deploy")
    assert failed.returncode == 1
    assert "E404" in failed.stdout
    assert "Not deployed: broken." in failed.stderr
    assert running.http.get("/fn/broken").json()["hello"] == "World"
