"""Commands against a real api service."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sanfran_cli.client import Client
from sanfran_cli.errors import ApiRefused, Refused

from .terminal import CTRL_D, ENTER, Terminal

PUBLIC = "http://127.0.0.1:9"  # nothing listens there


Sanfran = Any


def test_create_get_list_update_delete(sanfran: Sanfran, hello: Path) -> None:
    assert sanfran.text("create", "hello", hello) == (
        f"hello is live, version 1\n{PUBLIC}/fn/hello\n"
    )
    shown = sanfran.text("get", "hello")
    assert f"{PUBLIC}/fn/hello" in shown
    assert "settings.timeout" in shown
    row = sanfran.text("list").splitlines()[1].split()
    assert row[:2] == ["hello", "1"]
    assert row[-1] == f"{PUBLIC}/fn/hello"
    hello.write_text("module.exports = (req, res) => res.send('Ahoy');")
    assert "version 2" in sanfran.text("update", "hello", hello)
    assert sanfran.text("delete", "hello") == "hello is gone\n"
    assert "hello" in sanfran.refusal("get", "hello")
    assert sanfran.refusal("delete", "hello")


def test_json_is_for_programs(sanfran: Sanfran, hello: Path) -> None:
    created = sanfran.json("create", "for-programs", hello)
    assert (created["name"], created["version"]) == ("for-programs", 1)
    assert sanfran.json("get", "for-programs")["digest"] == created["digest"]
    assert "for-programs" in [one["name"] for one in sanfran.json("list")]
    assert sanfran.json("update", "for-programs", "--timeout", "5")["version"] == 2
    assert sanfran.json("delete", "for-programs") == {"deleted": "for-programs"}


def test_settings_given_change_and_the_others_stay(
    sanfran: Sanfran, hello: Path, tmp_path: Path
) -> None:
    options = (
        "--timeout 2.5 --concurrency 7 --min-scale 1 --max-scale 3 --idle-timeout 90 --memory 128"
        " --label team=a --label x- --body-limit 1k --invoke private"
    )
    created = sanfran.json(
        "create", "set", hello, *options.split(), "--env", "A=1", "--env", "B=x=y"
    )
    wanted = {
        "timeout": 2.5,
        "concurrency": 7,
        "min_scale": 1,
        "max_scale": 3,
        "idle_timeout": 90,
        "memory": 128,
        "labels": {"team": "a"},
        "body_limit": 1024,
        "invoke": "private",
        "secrets": [],
    }
    assert created["settings"] == {**wanted, "env": {"A": "1", "B": "x=y"}}
    updated = sanfran.json("update", "set", "--timeout", "3", "--env", "A=2")
    wanted["timeout"] = 3
    assert updated["settings"] == {**wanted, "env": {"A": "2", "B": "x=y"}}
    assert updated["digest"] == created["digest"]
    env_file = tmp_path / "env"
    env_file.write_text("C=3\n")
    updated = sanfran.json("update", "set", hello, "--env-file", env_file, "--env", "D=4")
    assert updated["settings"] == {**wanted, "env": {"C": "3", "D": "4"}}
    env_file.write_text("")
    assert sanfran.json("update", "set", "--env-file", env_file)["settings"]["env"] == {}
    labels = ["--label", "tier=web", "--label", "team-"]
    assert sanfran.json("update", "set", *labels)["settings"]["labels"] == {"tier": "web"}


def test_functions_are_listed_by_their_labels(sanfran: Sanfran, hello: Path) -> None:
    sanfran.text("create", "web-1", hello, "--label", "kind=web", "--label", "n=1")
    sanfran.text("create", "web-2", hello, "--label", "kind=web")
    found = sanfran.json("list", "-l", "kind=web")
    assert [one["name"] for one in found] == ["web-1", "web-2"]
    assert [one["name"] for one in sanfran.json("list", "-l", "kind", "-l", "n=1")] == ["web-1"]
    assert "web-1" in sanfran.text("list", "-l", "n")
    assert sanfran.json("list", "-l", "kind=none") == []


def test_variables_that_several_set_at_once_all_stay(
    api: str, sanfran: Sanfran, hello: Path
) -> None:
    sanfran.text("create", "shared", hello)
    at_once = [
        subprocess.Popen(
            [sys.executable, "-m", "sanfran_cli.main", "update", "shared", "--env", f"V{number}=1"],
            env={**os.environ, "SANFRAN_API": api},
            stdout=subprocess.DEVNULL,
        )
        for number in range(5)
    ]
    assert [one.wait(30) for one in at_once] == [0] * 5
    variables = sanfran.json("get", "shared")["settings"]["env"]
    assert sorted(variables) == [f"V{number}" for number in range(5)]


async def test_a_file_that_changes_while_it_is_sent_is_refused(api: str, tmp_path: Path) -> None:
    path = tmp_path / "growing.js"
    path.write_bytes(b"1;" * 300_000)
    async with Client(api) as client:

        def grow(_: int) -> None:
            with path.open("ab") as file:
                file.write(b"2;")

        with pytest.raises(Refused, match=r"growing\.js changed while it was sent"):
            await client.create("growing", path, sent=grow)
        with pytest.raises(ApiRefused, match="no function 'growing'"):
            await client.get("growing")


def test_a_folder_is_sent_packed(sanfran: Sanfran, tmp_path: Path) -> None:
    folder = tmp_path / "greet"
    (folder / "node_modules/words").mkdir(parents=True)
    (folder / "node_modules/words/index.js").write_text("module.exports = 'Hello';")
    (folder / "index.js").write_text("module.exports = (q, s) => s.send(require('words'));")
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").write_text("x" * 100_000)
    created = sanfran.json("create", "greet", folder)
    assert created["entry"] == "index.js"
    assert created["bundle_bytes"] < 50_000


def test_a_folder_larger_than_memory_would_like_arrives_whole(
    sanfran: Sanfran, tmp_path: Path
) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "index.js").write_text("module.exports = (q, s) => s.send('x');")
    (folder / "noise").write_bytes(os.urandom(8_000_000))
    assert sanfran.json("create", "large", folder)["bundle_bytes"] > 8_000_000


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["create", "Bad_Name", "hello.js"], "Bad_Name"),
        (["create", "text", "hello.txt"], "hello.txt"),
        (["create", "slow", "hello.js", "--timeout", "-1"], "settings.timeout"),
        (["create", "many", "hello.js", "--min-scale", "5", "--max-scale", "2"], "max_scale"),
        (["create", "own", "hello.js", "--env", "SANFRAN_X=1"], "SANFRAN_X"),
        (["create", "empty", "empty"], ""),
        (["update", "nobody", "hello.js"], "nobody"),
        (["update", "nobody", "--env", "A=1"], "nobody"),
        (["get", "no/body"], "no/body"),
        (["logs", "nobody"], "nobody"),
    ],
)
def test_a_refusal_is_the_service_s_own_and_names_the_value(
    sanfran: Sanfran, hello: Path, args: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hello.parent)
    Path("hello.txt").write_text("words")
    Path("empty").mkdir()
    assert said in sanfran.refusal(*args)


def test_an_update_whose_build_fails_says_why_once_and_that_the_function_goes_on(
    sanfran: Sanfran, hello: Path, tmp_path: Path
) -> None:
    sanfran.text("create", "built", hello)
    folder = tmp_path / "built"
    folder.mkdir()
    (folder / "index.js").write_text("")
    package = '{"dependencies": {"m": "git+https://example.org/m.git"}}'  # refused by npm itself
    (folder / "package.json").write_text(package)
    code, out, errors = sanfran.run("update", "built", folder)
    assert (code, out) == (1, "")
    assert errors.count("EALLOWGIT") == 1
    assert errors.endswith("built goes on as it was.\n")
    assert sanfran.json("get", "built")["version"] == 1


@pytest.mark.parametrize("name", ["..", ".", "", "shop/versions", "../functions/shop"])
def test_a_name_reaches_no_other_resource(sanfran: Sanfran, hello: Path, name: str) -> None:
    for words in (("get", name), ("update", name, hello), ("delete", name), ("versions", name)):
        assert f"{name!r} is no function name" in sanfran.refusal(*words)


def test_a_name_that_is_taken_is_refused_and_nothing_changes(sanfran: Sanfran, hello: Path) -> None:
    sanfran.text("create", "taken", hello)
    assert "taken" in sanfran.refusal("create", "taken", hello)
    assert sanfran.json("get", "taken")["version"] == 1


def test_a_function_whose_router_does_not_answer_is_named_by_its_url(sanfran: Sanfran) -> None:
    assert f"{PUBLIC}/fn/hello/a?b" in sanfran.refusal("invoke", "hello", "a?b")


def test_an_answer_that_is_not_the_api_s_is_named(sanfran: Sanfran, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<html>")
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as other:
        assert other.stdout is not None
        port = other.stdout.readline().split("port ")[1].split()[0]
        errors = type(sanfran)(f"http://127.0.0.1:{port}").refusal("list")
        other.kill()
    assert f"no SanFran API at http://127.0.0.1:{port} (it answered HTTP 404" in errors


async def test_the_client_is_for_programs_too(api: str, hello: Path) -> None:
    async with Client(api) as client:
        assert (await client.info())["public_url"] == PUBLIC
        function = await client.create("by-program", hello, {"timeout": 5})
        assert function["settings"]["timeout"] == 5
        names = [one["name"] async for one in client.list()]
        assert names == sorted(names)
        assert "by-program" in names
        await client.delete("by-program")
        with pytest.raises(ApiRefused) as refused:
            await client.get("by-program")
        assert (refused.value.status, refused.value.code) == (404, "not_found")


def test_in_a_terminal_a_delete_asks_first_unless_it_is_told_not_to(
    sanfran: Sanfran, hello: Path
) -> None:
    sanfran.text("create", "asked", hello)
    question = f"Delete asked and all its versions at {sanfran.api}? [y/N]"
    for keys, code in (("n" + ENTER, 1), (ENTER, 1), (CTRL_D, 130)):
        with Terminal(sanfran.api, "delete", "asked") as one:
            one.answer(question, keys)
            assert one.end() == code
    sanfran.text("get", "asked")
    with Terminal(sanfran.api, "delete", "asked") as one:
        one.answer(question, "y" + ENTER)
        one.read_until("asked is gone")
        assert one.end() == 0
    sanfran.text("create", "asked", hello)
    with Terminal(sanfran.api, "delete", "asked", "-y") as one:
        one.read_until("asked is gone")
        assert one.end() == 0


@pytest.mark.parametrize("wrong", ["x", "0", "1.5", "99999999999999999999"])
def test_a_version_that_is_none_is_refused_by_name(sanfran: Sanfran, wrong: str) -> None:
    code, out, errors = sanfran.run("rollback", "hello", wrong)
    assert (code, out) == (2, "")
    assert f"'VERSION': '{wrong}' is no version; a whole number from 1 works" in errors
