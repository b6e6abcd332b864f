"""Servers by name: login, logout, what is kept and how."""

import json
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from sanfran_cli.client import Login, Server, Token
from sanfran_cli.errors import Refused
from sanfran_cli.main import main
from sanfran_cli.servers import (
    Servers,
    changing_servers,
    find_server,
    read_servers,
    write_servers,
)
from sanfran_cli.wizard import run_wizard

from .conftest import running_api

PASSWORD = "correct horse"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an api service that asks who one is."""
    path = tmp_path_factory.mktemp("guarded")
    (path / "password").write_text(PASSWORD)
    (path / "password").chmod(0o600)
    flags = ("--auth", "basic", "--admin-password-file", str(path / "password"))
    with running_api(path / "data", *flags) as url:
        yield url


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("SANFRAN_API", "SANFRAN_SERVER", "SANFRAN_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def call(*args: str, given: str = "") -> Result:
        return CliRunner().invoke(main, args, input=given)

    return call


def test_whoever_is_logged_in_need_not_say_so_again(run: Run, guarded: str, hello: Path) -> None:
    refused = run("list", "--server", guarded)
    assert refused.exit_code == 1
    assert f"Log in with `sanfran login --server {guarded}`" in refused.stderr
    done = run("login", "work", "--server", guarded, "--user", "admin", given=f"{PASSWORD}\n")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "work: logged in as admin (admin)\n"
    assert run("create", "hello", str(hello)).exit_code == 0
    shown = json.loads(run("get", "hello", "-o", "json").stdout)
    assert shown["created_by"] == "admin"
    assert run("list", "--api", guarded).exit_code == 0, "its URL is as good as its name"
    assert run("delete", "hello", "--server", "work").exit_code == 0
    assert run("logout").stdout == "work is forgotten\n"
    assert run("list", "--server", guarded).exit_code == 1
    assert run("logout").exit_code == 1


def test_a_wrong_password_says_so_and_nothing_is_kept(run: Run, guarded: str) -> None:
    refused = run("login", "--server", guarded, "--user", "admin", given="wrong password\n")
    assert refused.exit_code == 1
    assert "wrong user or password" in refused.stderr
    assert json.loads(run("servers", "-o", "json").stdout) == []


def test_several_servers_have_names_and_one_is_in_use(run: Run, guarded: str, api: str) -> None:
    run("login", "work", "--server", guarded, "--user", "admin", given=f"{PASSWORD}\n")
    assert run("login", "home", "--server", api).stdout == "home: asks nobody who they are\n"
    assert run("servers").stdout.splitlines() == [f"  work  {guarded}  admin", f"* home  {api}  "]
    assert run("list").exit_code == 0
    assert run("servers", "work").stdout.startswith(f"* work  {guarded}  admin\n")
    shown = run("servers", "-o", "json").stdout
    assert PASSWORD not in shown
    assert [one["current"] for one in json.loads(shown)] == [True, False]
    refused = run("servers", "other")
    assert "'other' is no server that you logged in to: work, home" in refused.stderr
    refused = run("list", "--server", "other")
    assert refused.exit_code == 2
    assert "try work, home, http://127.0.0.1:8081" in refused.stderr
    # A password that has changed: the name is enough.
    assert run("login", "work", "--user", "admin", given=f"{PASSWORD}\n").exit_code == 0


def test_passwords_are_kept_where_only_their_user_can_read_them(
    run: Run, guarded: str, tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        run("login", "work", "--server", guarded, "--user", "admin", given=f"{PASSWORD}\n")
    finally:
        os.umask(before)
    folder = tmp_path / "config" / "sanfran"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "servers.json").stat().st_mode) == 0o600
    assert sorted(one.name for one in folder.iterdir()) == ["servers.json", "servers.lock"]
    (folder / "servers.json").chmod(0o644)
    refused = run("list")
    assert refused.exit_code == 1
    assert "mode 0644 lets others at it; chmod 600 it" in refused.stderr
    (folder / "servers.json").chmod(0o600)
    (folder / "servers.json").write_text('{"servers": [')
    assert "remove it, log in again" in run("list").stderr


def test_a_token_comes_by_standard_input_or_by_environment(
    run: Run, guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = run("login", "--server", guarded, "--token-stdin", given="abc\n")
    assert refused.exit_code == 1
    assert "tokens do not count here" in refused.stderr
    monkeypatch.setenv("SANFRAN_TOKEN", "abc")
    assert "tokens do not count here" in run("list", "--server", guarded).stderr
    monkeypatch.setenv("SANFRAN_SERVER", guarded)
    assert "tokens do not count here" in run("list").stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["login"], "--server URL is missing"),
        (["login", "--server", "example.org"], "'example.org' is no URL"),
        (["login", "--server", "http://vik:secret@127.0.0.1:9"], "a URL with a password"),
        (["login", "a b", "--server", "http://127.0.0.1:9"], "'a b' is no name"),
        (["login", "--server", "http://127.0.0.1:9", "--user", "x"], "no password on standard"),
        (["login", "--server", "http://127.0.0.1:9", "--user", "x", "--token-stdin"], "leave out"),
    ],
)
def test_a_login_that_cannot_be_is_a_mistake_of_the_command_line(
    run: Run, args: list[str], message: str
) -> None:
    refused = run(*args)
    assert refused.exit_code == 2
    assert message in refused.stderr


def test_an_unencrypted_server_elsewhere_is_warned_of(run: Run) -> None:
    # Nothing answers at this address (RFC 5737), and nothing is sent: the name is wrong.
    told = run("login", "--server", "http://0.0.0.0:9", "--user", "vik", given="secret-password\n")
    assert "whoever is on the way can read the password" in told.stderr
    assert told.exit_code == 1


def test_two_logins_at_once_keep_both(run: Run) -> None:
    def add(number: int) -> None:
        with changing_servers() as path:
            server = Server(f"http://127.0.0.1:{number}", Login("vik", "secret"))
            write_servers(path, read_servers().with_server(f"s{number}", server))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(1, 33)))
    assert len(read_servers().by_name) == 32


def test_a_disk_without_room_keeps_what_was_there(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with changing_servers() as path:
        write_servers(path, Servers({"a": Server("http://127.0.0.1:1", Token("t"))}, "a"))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with changing_servers() as path, pytest.raises(Refused, match="nothing was changed"):
        write_servers(path, Servers({}))
    assert find_server(None).credentials == Token("t")
    assert sorted(one.name for one in path.parent.iterdir()) == ["servers.json", "servers.lock"]


def test_credentials_do_not_show_where_they_are_printed() -> None:
    shown = repr(Server("http://x", Login("vik", "hunter22"))) + repr(Token("hunter22"))
    assert "hunter22" not in shown
    assert str(Server("http://x", Login("vik", "hunter22"))) == "http://x"


def test_hash_password_prints_a_user(run: Run) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("sanfran"), "hash-password", "vik", "admin"],
        input="hunter22\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("vik:$argon2id$")
    assert done.stdout.endswith(":admin\n")


def test_a_password_is_asked_for_at_a_terminal_and_does_not_show_there(
    run: Run, guarded: str
) -> None:
    ours, theirs = pty.openpty()
    command = [Path(sys.executable).with_name("sanfran"), "login", "work", "--server", guarded]
    with subprocess.Popen(
        [*command, "--user", "admin"], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    ) as process:
        os.close(theirs)
        seen = b""
        while b"Password: " not in seen:
            seen += os.read(ours, 1000)
        os.write(ours, f"{PASSWORD}\n".encode())
        while b"logged in as admin" not in seen:
            seen += os.read(ours, 1000)
        assert process.wait(20) == 0
    os.close(ours)
    assert PASSWORD.encode() not in seen


def test_the_wizard_offers_who_was_logged_in_to_first(
    run: Run, guarded: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("login", "work", "--server", guarded, "--user", "admin", given=f"{PASSWORD}\n")
    monkeypatch.setenv("PATH", "/nowhere")  # no minikube
    listed = "\r" + "\x1b[B" * 4 + "\r"
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text(listed)
        run_wizard()
        assert "No functions yet" in capsys.readouterr().err
        with changing_servers() as path:
            wrong = Server(guarded, Login("admin", "another password"))
            write_servers(path, read_servers().with_server("work", wrong))
        keys.send_text(listed)
        with pytest.raises(Refused, match="wrong user or password"):
            run_wizard()
