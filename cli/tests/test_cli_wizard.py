"""The wizard, with keys as they are typed, against a real api service."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from sanfran_cli.errors import ApiRefused
from sanfran_cli.wizard import check_name, check_path, check_url, minikube_api, run_wizard

from .terminal import CTRL_C, DOWN, ENTER, Terminal

Type = Callable[..., None]


@pytest.fixture
def wizard(api: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Type]:
    """Runs the wizard on keys; the api service is its first choice."""
    monkeypatch.setenv("SANFRAN_API", api)
    monkeypatch.setenv("PATH", "/nowhere")  # no minikube
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):

        def type_keys(*typed: str) -> None:
            keys.send_text("".join(typed))
            run_wizard()

        yield type_keys


def test_a_function_s_life_in_the_wizard(
    wizard: Type, hello: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wizard(ENTER, ENTER, "hello", ENTER, str(hello), ENTER)
    assert "hello is live, version 1\nhttp://127.0.0.1:9/fn/hello\n" in capsys.readouterr().out
    wizard(ENTER, DOWN * 2, ENTER, "hello", ENTER, str(hello), ENTER)
    assert "hello is live, version" in capsys.readouterr().out
    wizard(ENTER, DOWN, ENTER, "hello", ENTER)
    assert re.search(r"^entry +\S+\.js$", capsys.readouterr().out, re.MULTILINE)
    wizard(ENTER, DOWN * 4, ENTER)
    assert re.search(r"^hello +\d", capsys.readouterr().out, re.MULTILINE)
    wizard(ENTER, DOWN * 3, ENTER, "hello", ENTER, "n")
    assert "hello is gone" not in capsys.readouterr().out
    wizard(ENTER, DOWN * 3, ENTER, "hello", ENTER, "y")
    assert "hello is gone" in capsys.readouterr().out


def test_a_first_project_is_written_and_deployed(
    wizard: Type,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    wizard(ENTER, DOWN * 5, ENTER, "shop", ENTER, DOWN, ENTER, "y")
    assert (tmp_path / "shop/index.ts").is_file()
    assert "created    shop  version " in capsys.readouterr().out
    wizard(ENTER, DOWN * 3, ENTER, "shop", ENTER, "y")


def test_another_server_is_asked_for(wizard: Type, capsys: pytest.CaptureFixture[str]) -> None:
    wizard(DOWN * 2, ENTER, os.environ["SANFRAN_API"], ENTER, DOWN * 4, ENTER)
    assert "No functions yet" in capsys.readouterr().err


def test_the_service_s_refusal_is_the_wizard_s(wizard: Type) -> None:
    with pytest.raises(ApiRefused, match="nobody"):
        wizard(ENTER, DOWN, ENTER, "nobody", ENTER)


def test_ctrl_c_says_good_bye(wizard: Type, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        wizard(ENTER, CTRL_C)
    assert capsys.readouterr().out.endswith("Bye.\n")


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("hello", True),
        ("a", True),
        ("a-1", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("", False),
        ("-a", False),
        ("a-", False),
        ("A", False),
        ("a_b", False),
        ("a.b", False),
        ("á", False),
        ("a\n", False),
    ],
)
def test_a_name_is_judged_as_it_is_typed(name: str, fits: bool) -> None:
    assert (check_name(name) is True) == fits


def test_urls_and_paths_are_judged_as_they_are_typed(tmp_path: Path) -> None:
    assert check_url("http://10.0.0.5:8081") is True
    assert check_url("10.0.0.5") is not True
    assert check_path(str(tmp_path)) is True
    assert check_path("") is not True
    assert check_path(str(tmp_path / "none")) is not True


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo 192.168.49.2", "http://192.168.49.2"),
        ("echo 'no profile'", None),
        ("echo 192.168.49.2; exit 1", None),
        ("exec sleep 30", None),
    ],
)
def test_minikube_is_offered_when_it_answers_quickly(
    script: str, found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "minikube"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("sanfran_cli.wizard.MINIKUBE_SECONDS", 0.3)
    assert minikube_api() == found


def test_in_a_real_terminal_a_function_is_made_and_ctrl_c_leaves_with_130(
    api: str, hello: Path
) -> None:
    with Terminal(api) as one:
        one.answer("Which API server", ENTER)
        one.answer("What would you like", ENTER)
        one.answer("Name of the function", "in-a-terminal" + ENTER)
        one.answer("File, folder", str(hello) + ENTER)
        one.read_until("/fn/in-a-terminal")
        assert one.end() == 0
    with Terminal(api) as one:
        one.answer("Which API server", CTRL_C)
        one.read_until("Bye.")
        assert one.end() == 130
