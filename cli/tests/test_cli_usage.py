"""Commands as they are typed, up to where a service is needed; and their page."""

import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from sanfran_cli.main import main

PAGE = Path(__file__).parents[2] / "docs/cli.md"


def commands() -> dict[str, click.Command]:
    context = click.Context(main)
    found = {name: main.get_command(context, name) for name in main.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def run(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, args, env={"SANFRAN_API": None})
    return result.exit_code, result.stdout, result.stderr


def section(name: str) -> str:
    page = PAGE.read_text()
    found = re.search(rf"^## `sanfran {name}\b.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"docs/cli.md has no section for {name}"
    return found[0]


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_stands_in_the_page(name: str) -> None:
    for_all = PAGE.read_text().partition("## For all commands")[2].partition("\n## ")[0]
    settings = section("create")
    for parameter in commands()[name].params:
        if isinstance(parameter, click.Argument):
            assert parameter.make_metavar(click.Context(main)).strip("[]") in section(name)
            continue
        for flag in parameter.opts:
            pages = [section(name), for_all, *([settings] if name == "update" else [])]
            assert any(f"{flag}" in page for page in pages), f"{name} {flag}"


def test_every_option_in_the_page_exists() -> None:
    known = {flag for command in commands().values() for one in command.params for flag in one.opts}
    known |= {"--version", "--help", "-h"}
    # Not ours: the flags of services.
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE.read_text())) - known == set()


def test_the_version_is_printed_without_loading_what_commands_need() -> None:
    code = (
        "import sys; from sanfran_cli.main import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'httpx', 'questionary', 'asyncio', 'sanfran_common'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, loaded = done.stdout.splitlines()
    assert re.fullmatch(r"sanfran \d+\.\d+\.\d+", version)
    assert loaded == "[]"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["create", "hello"], "Missing argument 'PATH'"),
        (["create", "hello", "/no/such/file.js"], "'/no/such/file.js' does not exist"),
        (["create", "hello", __file__, "--env", "KEY"], "'KEY' is not K=V; try KEY=value"),
        (["create", "hello", __file__, "--timeout", "soon"], "'soon' is not a valid float"),
        (["update", "hello"], "give a PATH or a setting"),
        (["list", "--api", "10.0.0.5"], "'10.0.0.5' is no URL and no server"),
        (["list", "--api", "http://["], "'http://[' is no URL and no server"),
        (
            ["list", "--api", "http://host:port"],
            "'http://host:port' is no URL and no server that you logged in to; try",
        ),
        (["list", "-o", "yaml"], "'yaml' is not one of 'text', 'json'"),
        (["invoke", "hello", "-H", "nothing"], "'nothing' is not 'K: V'"),
        (["invoke", "hello", "-H", "ä: b"], "'ä: b' is not 'K: V'"),
        (["invoke", "hello", "-H", "content-length: 5"], "the length is counted; leave it out"),
        (["invoke", "hello", "-d", "@/no/such"], "@/no/such: No such file"),
        (["get", "a\udcff"], r"'a\udcff' is not UTF-8"),
        (["up", "--port", "70000"], "70000 is not in the range"),
        (["up", "--pool-size", "-1"], "-1 is not in the range"),
        ([], "Usage: main [OPTIONS]"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what_is_wrong(args: list[str], said: str) -> None:
    code, out, errors = run(*args)
    assert (code, out) == (2, "")
    assert said in errors


@pytest.mark.parametrize(
    "args", [["list"], ["get", "a"], ["delete", "a"], ["logs", "a"], ["invoke", "a"], ["pool"]]
)
def test_an_api_that_does_not_answer_is_named_with_what_to_try(args: list[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        api = f"http://127.0.0.1:{closed.getsockname()[1]}"
        code, out, errors = run(*args, "--api", api)
    assert (code, out) == (1, "")
    assert f"no SanFran API at {api}" in errors
    assert "sanfran up" in errors


def test_an_answer_that_breaks_off_is_not_taken_for_a_service_that_is_not_there() -> None:
    def hang_up(listener: socket.socket) -> None:
        for answer in (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n["):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with ThreadPoolExecutor(1) as other:
            done = other.submit(hang_up, listener)
            deleted = run("delete", "a", "--api", api)
            listed = run("list", "--api", api)
            done.result()
    for code, out, errors in (deleted, listed):
        assert (code, out) == (1, "")
        assert f"the connection to {api} broke before the answer was complete" in errors
        assert "sanfran up" not in errors
    assert "Look whether it was done" in deleted[2]


def test_a_port_in_use_is_refused_by_its_flag_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        data = str(tmp_path / "data")
        code, out, errors = run("up", "--data", data, "--port", "0", "--api-port", port)
    assert (code, out) == (1, "")
    assert f"--api-port {port}: something listens there already" in errors
    assert not (tmp_path / "data/run.json").exists()


def test_a_data_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, errors = run("up", "--data", str(tmp_path / "file/data"))
    assert code == 1
    assert f"--data {tmp_path}/file/data: Not a directory" in errors
