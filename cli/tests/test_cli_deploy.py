"""init and deploy, against a real api service."""

import asyncio
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from sanfran_cli.client import Client
from sanfran_cli.commands.init import KINDS
from sanfran_cli.main import main

CODE = "module.exports = (req, res) => res.send('hi');"
Deploy = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: str) -> Iterator[Path]:
    """The folder that the command runs in; its functions are gone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SANFRAN_API", api)
    yield tmp_path
    with httpx.Client(base_url=f"{api}/api/v1/", trust_env=False) as http:
        for one in http.get("functions").json()["functions"]:
            http.delete(f"functions/{one['name']}")


def run(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, args)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.stdout, result.stderr


def deploy(*args: str) -> tuple[int, dict[str, str], str]:
    """Exit code, what became of each function, standard error."""
    code, out, errors = run("deploy", "-o", "json", *args)
    return code, {one["name"]: one["action"] for one in json.loads(out)}, errors


def unnumbered(text: str) -> str:
    """Without version numbers, which no two functions of one name ever share."""
    return re.sub(r"version \d+", "version N", text)


def write(folder: Path, text: str) -> None:
    (folder / "a.js").write_text(CODE)
    (folder / "sanfran.yaml").write_text(text)


TWO = "functions:\n  a:\n    path: a.js\n    timeout: 5\n  b:\n    path: lib\n    env: {A: one}\n"


@pytest.fixture
def two(project: Path) -> Path:
    write(project, TWO)
    (project / "lib").mkdir()
    (project / "lib/index.js").write_text(CODE)
    return project


def test_deploy_makes_changes_and_leaves_alone(two: Path) -> None:
    assert deploy() == (0, {"a": "created", "b": "created"}, "")
    assert deploy() == (0, {"a": "unchanged", "b": "unchanged"}, "")
    write(two, TWO.replace("timeout: 5", "timeout: 7.5").replace("{A: one}", "{A: two, B: x}"))
    code, out, _ = run("deploy", "--dry-run")
    assert code == 0
    code, again, errors = run("deploy")
    assert (code, errors) == (0, "")
    assert [line.split() for line in unnumbered(again).splitlines()] == [
        ["updated", "a", "version", "N", "timeout", "5", "→", "7.5", "http://127.0.0.1:9/fn/a"],
        [
            *("updated", "b", "version", "N", "env.A", "changed,", "env.B", "added"),
            "http://127.0.0.1:9/fn/b",
        ],
    ]
    assert out == again, "the dry run said something else"
    (two / "lib/index.js").write_text(f"{CODE} // changed")
    assert deploy()[1] == {"a": "unchanged", "b": "updated"}
    # A setting that the file does not name any more has its default again.
    write(two, TWO.replace("    timeout: 5\n", ""))
    out = unnumbered(run("deploy", "--dry-run")[1])
    assert out.startswith("updated    a  version N  timeout 7.5 → 60")


def test_a_function_that_someone_else_makes_or_removes_meanwhile_is_looked_at_again(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Client.get
    meanwhile = [
        lambda: run("create", "a", "a.js"),
        lambda: None,
        lambda: run("delete", "b"),
    ]

    async def get(client: Client, name: str) -> Any:
        try:
            return await real(client, name)
        finally:
            if meanwhile:
                await asyncio.to_thread(meanwhile.pop(0))

    run("create", "b", "lib")
    monkeypatch.setattr(Client, "get", get)
    assert deploy() == (0, {"a": "updated", "b": "created"}, "")


def test_a_dry_run_changes_nothing(two: Path) -> None:
    code, out, errors = run("deploy", "--dry-run")
    assert "nothing is changed" in errors
    assert json.loads(run("list", "-o", "json")[1]) == []
    assert run("deploy") == (code, out, "")
    write(two, TWO.replace("timeout: 5", "timeout: 9"))
    (two / "a.js").write_text(f"{CODE} // changed")
    before = run("versions", "a")
    code, out, _ = run("deploy", "--dry-run")
    assert run("versions", "a") == before
    assert "code, timeout 5 → 9" in out
    assert run("deploy") == (code, out, "")


def test_a_dry_run_fails_where_the_service_would_refuse(two: Path) -> None:
    wrong = TWO.replace("timeout: 5", "memory: 1").replace(
        "env: {A: one}", "env: {NODE_OPTIONS: x}"
    )
    write(two, wrong)
    code, new, errors = run("deploy", "--dry-run")
    assert code == 1
    first, second = new.splitlines()
    assert first.startswith("failed     a  sanfran.yaml:4: settings.memory: 1 is not accepted")
    assert "sanfran.yaml:7: settings.env: 'NODE_OPTIONS' is reserved" in second
    assert "Not deployed: a, b." in errors
    assert run("deploy")[:2] == (code, new)
    write(two, TWO)
    run("deploy")
    write(two, wrong)
    code, out, _ = run("deploy", "--dry-run")
    assert (code, out) == (1, new)
    assert run("deploy")[:2] == (code, out)


def test_nothing_is_removed_unless_it_is_asked_for(two: Path) -> None:
    deploy()
    write(two, "functions:\n  a:\n    path: a.js\n    timeout: 5\n")
    assert deploy()[1] == {"a": "unchanged"}
    assert deploy("--prune", "--dry-run")[1] == {"a": "unchanged", "b": "removed"}
    assert deploy("--prune")[1] == {"a": "unchanged", "b": "removed"}
    assert [one["name"] for one in json.loads(run("list", "-o", "json")[1])] == ["a"]


def test_one_that_fails_keeps_no_other_back_and_removes_nothing(two: Path) -> None:
    deploy()
    write(two, TWO.replace("timeout: 5", "timeout: 0").replace("  b:", "  c:"))
    code, out, errors = run("deploy", "--prune")
    assert code == 1
    assert out.splitlines()[0].startswith("failed     a  sanfran.yaml:4: settings.timeout: 0")
    assert out.splitlines()[1].startswith("created    c  version ")
    assert errors == "Not deployed: a; done: c; nothing was removed.\n"
    assert {one["name"] for one in json.loads(run("list", "-o", "json")[1])} == {"a", "b", "c"}


def test_values_come_from_the_environment_and_are_not_shown(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "t0ken-value")
    write(two, "functions:\n  a:\n    path: a.js\n    env: {TOKEN: 'x-${TOKEN}'}\n")
    code, out, errors = run("deploy")
    assert code == 0
    assert "t0ken" not in out + errors
    assert json.loads(run("get", "a", "-o", "json")[1])["settings"]["env"] == {
        "TOKEN": "x-t0ken-value"
    }
    monkeypatch.delenv("TOKEN")
    code, _, errors = run("deploy")
    assert code == 1
    assert "sanfran.yaml:4: functions.a.env.TOKEN: the variable TOKEN is not set" in errors


def test_the_same_code_is_the_same_wherever_it_lies(
    two: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("sanfran.yaml", "a.js"):
        (elsewhere / name).write_bytes((two / name).read_bytes())
    shutil.copytree(two / "lib", elsewhere / "lib", copy_function=shutil.copyfile)
    (elsewhere / "lib/.git").mkdir()
    monkeypatch.chdir(elsewhere)
    assert deploy()[1] == {"a": "unchanged", "b": "unchanged"}


def test_what_create_sent_deploy_knows(two: Path) -> None:
    assert run("create", "a", "a.js", "--timeout", "5")[0] == 0
    assert deploy()[1] == {"a": "unchanged", "b": "created"}
    assert run("update", "b", "lib", "--no-build")[0] == 0
    assert deploy()[1] == {"a": "unchanged", "b": "updated"}  # the file says that it is built


def test_a_service_that_is_not_there_is_named(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("SANFRAN_API", "http://127.0.0.1:9")
        code, out, errors = run("deploy")
    assert (code, out) == (1, "")
    assert "no SanFran API at http://127.0.0.1:9" in errors


@pytest.mark.parametrize("kind", KINDS)
def test_init_writes_what_deploy_takes(project: Path, kind: str) -> None:
    code, out, errors = run("init", "my-shop", "--template", kind)
    assert (code, errors) == (0, "")
    assert "cd my-shop && sanfran deploy" in out
    for path in (project / "my-shop").rglob("*"):
        if path.is_file():
            assert "@name@" not in path.read_text()
    code, outcomes, _ = deploy("-f", "my-shop/sanfran.yaml", "--dry-run")
    assert code == 0
    assert all(name.startswith("my-shop") for name in outcomes)


def test_init_overwrites_nothing(project: Path) -> None:
    (project / "taken").mkdir()
    (project / "taken/mine.txt").write_text("mine")
    code, _, errors = run("init", "taken")
    assert code == 1
    assert "taken is there already" in errors
    assert [path.name for path in (project / "taken").iterdir()] == ["mine.txt"]
    (project / "empty").mkdir()
    assert run("init", "empty")[0] == 0
    assert "no name for a function" in run("init", "Not_One")[2]


def test_a_secret_makes_a_version_when_its_value_is_another_one(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(two, "functions:\n  a:\n    path: a.js\n    secrets: {KEY: '${KEY}', MORE: fixed}\n")
    monkeypatch.setenv("KEY", "first-value")
    assert deploy()[1] == {"a": "created"}
    assert deploy()[1] == {"a": "unchanged"}
    monkeypatch.setenv("KEY", "second-value")
    would = run("deploy", "--dry-run")[1]
    code, out, errors = run("deploy")
    assert (code, errors) == (0, "")
    assert would == out
    assert unnumbered(out).startswith("updated    a  version N  secrets  ")
    write(two, "functions:\n  a:\n    path: a.js\n    secrets: {KEY: '${KEY}'}\n")
    _, out, _ = run("deploy")
    assert unnumbered(out).startswith("updated    a  version N  secrets.MORE removed")
    assert "value" not in out
    assert json.loads(run("get", "a", "-o", "json")[1])["settings"]["secrets"] == ["KEY"]


@pytest.mark.parametrize("what", ["fifo", "absolute link", "link up"])
def test_of_a_folder_what_is_no_file_in_it_is_refused_by_name(two: Path, what: str) -> None:
    odd = two / "lib/odd"
    if what == "fifo":
        os.mkfifo(odd)
    else:
        odd.symlink_to("/etc/passwd" if what == "absolute link" else "../../outside")
    code, _, errors = run("create", "b", "lib")
    assert code == 1
    assert "odd" in errors
