"""sanfran.yaml as it is read: values, variables, files, and errors that say where."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sanfran_cli.errors import Refused
from sanfran_cli.project.differences import differences
from sanfran_cli.project.fields import CODE, SETTINGS
from sanfran_cli.project.file import Project, read_project
from sanfran_cli.settings import Settings

PAGE = Path(__file__).parents[2] / "docs/deploy.md"
SECRET = "s3cr3t-value"


def read(folder: Path, text: str, **environ: str) -> Project:
    file = folder / "sanfran.yaml"
    file.write_text(text)
    (folder / "hello.js").touch()
    return read_project(file, environ)


def refusal(folder: Path, text: str, **environ: str) -> str:
    with pytest.raises(Refused) as caught:
        read(folder, text, **environ)
    return str(caught.value).removeprefix(str(folder / "sanfran.yaml"))


def test_everything_that_a_function_may_have(tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_text(f"{SECRET}\n")
    (tmp_path / "a.env").write_text("A=file\nB='two words'\n")
    project = read(
        tmp_path,
        """
defaults:
  timeout: 10
  env: {STAGE: test, REGION: eu}
  labels: {team: web}
functions:
  hello:
    path: ./hello.js
    build: false
    timeout: 2.5
    env_file: a.env
    env:
      A: own
      STAGE: live
      VERSION: 1.10
      DEBUG: yes
      LITERAL: $${HOME}
      URL: https://${HOST}/x
    secrets:
      KEY: ${KEY}
      CERT: {file: key.txt}
    body_limit: 10m
    memory: 256
    invoke: private
    labels: {tier: 1}
""",
        HOST="example.org",
        KEY=SECRET,
    )
    (hello,) = project.functions
    assert (hello.name, hello.path, hello.build) == ("hello", tmp_path / "hello.js", False)
    assert hello.settings == {
        "timeout": 2.5,
        "env": {
            **{"STAGE": "live", "REGION": "eu", "A": "own", "B": "two words", "VERSION": "1.10"},
            **{"DEBUG": "yes", "LITERAL": "${HOME}", "URL": "https://example.org/x"},
        },
        "secrets": {"KEY": SECRET, "CERT": SECRET},
        "labels": {"team": "web", "tier": "1"},
        "body_limit": 10 * 1024 * 1024,
        "memory": 256,
        "invoke": "private",
    }
    assert hello.lines["memory"] == 23


FUNCTION = "functions:\n  hello:\n    path: hello.js\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ": empty"),
        ("functions: {", ":1: not YAML"),
        ("a: 1\n", ":1: a: unknown; there is functions, defaults"),
        ("defaults: {timeout: 1}\n", ":1: functions: missing"),
        ("functions: {}\n", ":1: functions: names no function"),
        ("functions: [a]\n", ":1: functions: has to be names with values"),
        ("functions:\n  Hello:\n    path: hello.js\n", ":3: functions.Hello: no name"),
        (
            "functions:\n  hello: hello.js\n",
            ":2: functions.hello: has to be names with values, `path: hello.js`",
        ),
        ("functions:\n  hello: {}\n", ":2: functions.hello.path: missing"),
        ("functions:\n  hello:\n    path: no.js\n", ":3: functions.hello.path: there is no "),
        (FUNCTION + "    timeout: soon\n", ":4: functions.hello.timeout: 'soon' is not accepted"),
        (FUNCTION + "    memory: 1.5\n", ":4: functions.hello.memory: '1.5' is not accepted"),
        (FUNCTION + "    build: maybe\n", ":4: functions.hello.build: 'maybe'"),
        (FUNCTION + "    body_limit: big\n", ":4: functions.hello.body_limit: 'big' is no size"),
        (FUNCTION + "    timout: 1\n", ":4: functions.hello.timout: unknown; there is path, "),
        (FUNCTION + "    env: x\n", ":4: functions.hello.env: has to be names with values"),
        (FUNCTION + "    env:\n      A: [1]\n", ":5: functions.hello.env.A: names with texts"),
        (FUNCTION + "    env:\n      A:\n", ":5: functions.hello.env.A: names with texts"),
        (
            FUNCTION + "    env:\n      A: ${B}\n",
            ":5: functions.hello.env.A: the variable B is not",
        ),
        (FUNCTION + "    env:\n      A: ${B C}\n", ":5: functions.hello.env.A: ${B C} names no"),
        (FUNCTION + "    secrets:\n      A: {file: no}\n", ":5: functions.hello.secrets.A: "),
        (FUNCTION + "    env_file: no.env\n", ":4: functions.hello.env_file: "),
        (FUNCTION + "    timeout: 1\n    timeout: 2\n", ":5: functions.hello.timeout: is there"),
        ("defaults:\n  path: x\n" + FUNCTION, ":2: defaults.path: unknown"),
    ],
)
def test_an_error_says_where_and_what_would_work(tmp_path: Path, text: str, says: str) -> None:
    assert refusal(tmp_path, text).startswith(says)


def test_no_error_shows_a_value(tmp_path: Path) -> None:
    (tmp_path / "bad.env").write_text(f"A={SECRET}\nB='{SECRET}\n")
    for text in (
        FUNCTION + f"    secrets:\n      A: {SECRET}${{NOT_SET}}\n",
        FUNCTION + f"    secrets:\n      A: [{SECRET}]\n",
        FUNCTION + "    secrets:\n      A: ${KEY}${NOT_SET}\n",
    ):
        assert SECRET not in refusal(tmp_path, text, KEY=SECRET)


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="sanfran init"):
        read_project(tmp_path / "sanfran.yaml", {})


def assert_read_or_refused(file: Path) -> None:
    said = str(file)
    try:
        read_project(file, {})
    except Refused as error:
        said = str(error)
    assert said.startswith(str(file))


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text.encode(errors="replace"))
    assert_read_or_refused(file)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "functions", "<<", "path", "env", "timeout"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from(["a", "path", "env"]), inner, max_size=2)
            ),
            max_leaves=6,
        ),
    )
)
def test_any_shape_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, shape: dict[str, Any]
) -> None:
    import yaml

    file = tmp_path_factory.getbasetemp() / "shape.yaml"
    file.write_text(yaml.safe_dump({"functions": shape}))
    assert_read_or_refused(file)


DEFAULTS = {"env": {}, "timeout": 60.0, "memory": 512, "labels": {}, "secrets": []}


def test_differences_are_told_without_values_of_variables_and_secrets() -> None:
    now = {**DEFAULTS, "env": {"A": "1", "B": "2", "C": "3"}, "memory": 100, "secrets": ["X", "Y"]}
    wanted = {"env": {"A": "1", "B": "other", "D": "4"}, "timeout": 60, "secrets": {"Y": SECRET}}
    found = differences(now, wanted, DEFAULTS)
    assert found.words == [
        *("env.B changed", "env.C removed", "env.D added", "memory 100 → 512"),
        "secrets.X removed",
    ]
    assert found.settings == {
        "env": {"A": "1", "B": "other", "D": "4"},
        "memory": None,
        "secrets": {"Y": SECRET, "X": None},
    }
    assert found.checked_by_service


def test_what_has_the_defaults_has_no_differences() -> None:
    found = differences(DEFAULTS, {"timeout": 60, "env": {}}, DEFAULTS)
    assert (found.settings, found.words, found.checked_by_service) == ({}, [], False)


def test_the_page_has_every_field_and_no_other() -> None:
    table = PAGE.read_text().partition("## Fields")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.*) \|$", table, re.MULTILINE))
    assert rows == {name: field.text for name, field in {**CODE, **SETTINGS}.items()}


def test_every_setting_of_the_command_line_is_one_of_the_file() -> None:
    assert set(Settings.__annotations__) <= set(SETTINGS)
