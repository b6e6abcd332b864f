"""Settings as people write them."""

from pathlib import Path

import pytest
from sanfran_cli.errors import Refused
from sanfran_cli.settings import gather, parse_env_file, parse_variable, read_env_file


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("A=1", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A=b=c", {"A": "b=c"}),
        ("  A = b  ", None),
        ("export A=b", {"A": "b"}),
        ("# A=b", {}),
        ("", {}),
        ("A=b # why", {"A": "b"}),
        ("A=b#c", {"A": "b#c"}),
        ("A= # why", {"A": ""}),
        ("A=#fff", {"A": "#fff"}),
        ("A=#fff # why", {"A": "#fff"}),
        ("A='b # $c \\n' # why", {"A": "b # $c \\n"}),
        ('A="b\\n\\"c\\" \\\\ # d"', {"A": 'b\n"c" \\ # d'}),
        ('A=""', {"A": ""}),
        (r'A="C:\dir\new"', {"A": "C:\\dir\new"}),
        ("A=a\u2028b\x0cc", {"A": "a\u2028b\x0cc"}),
        ("export\tA=b", {"A": "b"}),
        ('A="b', None),
        ("A='b' c", None),
        ("1A=b", None),
        ("A", None),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("A=1\nA=2", {"A": "2"}),
    ],
)
def test_an_env_file_is_read_as_its_page_says(line: str, found: dict[str, str] | None) -> None:
    if found is None:
        with pytest.raises(ValueError, match="line 1: "):
            parse_env_file(line)
    else:
        assert parse_env_file(line) == found


def test_a_variable_without_equals_says_what_would_work() -> None:
    with pytest.raises(ValueError, match="'KEY' is not K=V; try KEY=value"):
        parse_variable("KEY")


def test_options_win_over_the_file_and_what_is_not_given_stays_absent(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("A=file\nB=file\n")
    numbers = {"timeout": 2.5, "min_scale": 0, "max_scale": None}
    assert gather(env=["A=option"], env_file=path, numbers=numbers) == {
        "env": {"A": "option", "B": "file"},
        "timeout": 2.5,
        "min_scale": 0,
    }
    assert gather(env=[], env_file=None, numbers={}) == {}


def test_an_empty_env_file_means_no_variables(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("# none\n")
    assert gather(env=[], env_file=path, numbers={}) == {"env": {}}


def test_an_env_file_that_is_not_text_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match=r"--env-file .*env: "):
        read_env_file(path)
