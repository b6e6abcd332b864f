"""Settings as people write them."""

from pathlib import Path

import pytest
from sanfran_cli.errors import Refused
from sanfran_cli.settings import (
    gather,
    merged,
    parse_env_file,
    parse_size,
    parse_variable,
    read_env_file,
)


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
    assert gather(env=["A=option"], env_file=path, label=[], others=numbers) == {
        "env": {"A": "option", "B": "file"},
        "timeout": 2.5,
        "min_scale": 0,
    }
    assert gather(env=[], env_file=None, label=[], others={}) == {}


def test_an_empty_env_file_means_no_variables(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("# none\n")
    assert gather(env=[], env_file=path, label=[], others={}) == {"env": {}}


def test_an_env_file_that_is_not_text_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match=r"--env-file .*env: "):
        read_env_file(path)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("65536", 65536),
        ("64k", 65536),
        ("1.5K", 1536),
        ("10m", 10 << 20),
        ("10MB", 10 << 20),
        ("2GiB", 2 << 30),
        ("1 t", 1 << 40),
        ("7b", 7),
    ],
)
def test_a_size_is_bytes_with_or_without_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1e3", "10x", "1,5m", "0x10"])
def test_what_is_no_size_is_refused_with_one_that_works(text: str) -> None:
    with pytest.raises(ValueError, match="10m or 1g"):
        parse_size(text)


def test_labels_are_set_beside_others_and_removed_by_name() -> None:
    added = gather(env=[], env_file=None, label=["a=2", "b-", "c="], others={})
    former = {"labels": {"a": "1", "b": "1", "d": "1"}}
    assert merged(added, former) == {"labels": {"a": "2", "c": "", "d": "1"}}
    assert merged({"timeout": 1}, former) == {"timeout": 1}
    with pytest.raises(ValueError, match="try a=value, or a- to remove"):
        gather(env=[], env_file=None, label=["a"], others={})
