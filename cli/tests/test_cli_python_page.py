"""docs/python.md: its examples run, and it names what there is."""

import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sanfran_cli.client as package
from sanfran_cli.client import AlreadyExists, ApiRefused, Client, Login, NotFound, Refused

from .conftest import running_api

PAGE = (Path(__file__).parents[2] / "docs/python.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PASSWORD = "correct horse"


def example(which: str, **names: Any) -> dict[str, Any]:
    """What an example defines."""
    (code,) = [one for one in EXAMPLES if which in one]
    space: dict[str, Any] = dict(names)
    exec(compile(code, f"docs/python.md: {which}", "exec"), space)
    return space


@pytest.fixture(autouse=True)
def folder(hello: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hello.parent)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("guarded")
    (path / "password").write_text(PASSWORD)
    (path / "password").chmod(0o600)
    flags = ("--auth", "basic", "--admin-password-file", str(path / "password"))
    with running_api(path / "data", *flags) as url:
        yield url


def test_the_first_example_makes_a_function(
    api: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = [one for one in EXAMPLES if "asyncio.run(main())" in one]
    exec(code.replace("http://127.0.0.1:8081", api), {"__name__": "example"})
    assert capsys.readouterr().out == "hello 1 True\n"


async def test_the_example_logs_in(guarded: str, capsys: pytest.CaptureFixture[str]) -> None:
    await example("async def look")["look"](guarded, PASSWORD)
    assert capsys.readouterr().out.startswith("admin ['admin'] ['functions:list'")


async def test_the_examples_of_functions_run(
    guarded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Client(guarded, Login("admin", PASSWORD)) as client:
        await example("async def ship(")["ship"](client)
        assert "shop 3" in capsys.readouterr().out
        await example("async def ship_and_tell")["ship_and_tell"](client)
        assert "0 bytes left" in capsys.readouterr().out
        space = example("async def version_of")
        assert await space["version_of"](client, "told") == 1
        assert await space["version_of"](client, "missing") is None
        with pytest.raises(AlreadyExists):
            await client.create("told", Path("hello.js"))
        with pytest.raises(ApiRefused, match="controller"):
            await example("async def follow")["follow"](client, "told")
    async with Client(guarded) as client:
        with pytest.raises(ApiRefused):
            await space["version_of"](client, "told")
    assert "401 unauthenticated" in capsys.readouterr().out


async def test_a_list_of_many_pages_is_one_iterator(guarded: str) -> None:
    async with Client(guarded, Login("admin", PASSWORD)) as client:
        names = [f"many-{i:03}" for i in range(120)]
        await asyncio.gather(*(client.create(name, Path("hello.js")) for name in names[:16]))
        for name in names[16:]:
            await client.create(name, Path("hello.js"))
        found = [one["name"] async for one in client.list() if one["name"].startswith("many-")]
        assert found == names
        for name in names:
            await client.delete(name)
        with pytest.raises(NotFound):
            await client.get(names[0])


def test_every_exception_stands_in_the_table() -> None:
    for name in package.__all__:
        one = getattr(package, name)
        if inspect.isclass(one) and issubclass(one, Exception) and one not in (ApiRefused, Refused):
            assert f"| `{name}` |" in PAGE, name


def test_every_call_has_a_docstring_and_types() -> None:
    for name, call in inspect.getmembers(Client, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.getdoc(call), name
            assert call.__annotations__.get("return"), name
