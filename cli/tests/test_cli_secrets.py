"""Secrets and versions on the command line."""

import io
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sanfran_cli.errors import Refused
from sanfran_cli.secrets import gather_secrets

Sanfran = Any


def test_secrets_come_as_values_files_or_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"of = a\nfile\r\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"typed\n\n")))
    given = ["A=b=c", f"B=@{path}", "C=-", "D-", "E=-x"]
    found = {"A": "b=c", "B": "of = a\nfile", "C": "typed\n", "D": None, "E": "-x"}
    assert gather_secrets(given) == found


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["hunter2"], "is not NAME=VALUE"),
        (["1A=hunter2"], "'1A' is no variable name"),
        (["A="], "A is empty; A- removes it"),
    ],
)
def test_a_secret_that_is_wrong_is_not_repeated(given: list[str], says: str) -> None:
    with pytest.raises(ValueError) as caught:
        gather_secrets(given)
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_two_secrets_cannot_both_be_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"typed\n")))
    with pytest.raises(ValueError, match="A and B both want standard input"):
        gather_secrets(["A=-", "B=-"])


def test_a_file_of_a_secret_has_to_be_there_and_text(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"--secret A: .*: No such file"):
        gather_secrets([f"A=@{tmp_path}/none"])
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match="base64 works"):
        gather_secrets([f"A=@{tmp_path}/binary"])


def test_secrets_are_set_one_by_one_and_only_their_names_are_shown(
    sanfran: Sanfran, hello: Path
) -> None:
    made = sanfran.json("create", "s", hello, "--secret", "A=canary-1", "--secret", "B=canary-2")
    assert made["settings"]["secrets"] == ["A", "B"]
    made = sanfran.json("update", "s", "--secret", "C=canary-3", "--secret", "A-")
    assert made["settings"]["secrets"] == ["B", "C"]
    shown = sanfran.text("get", "s")
    assert "settings.secrets  " in shown
    assert "canary" not in shown
    done = sanfran.json("secrets", "rotate")
    assert done["rotated"] == 4
    assert "4 secrets are encrypted anew" in sanfran.text("secrets", "rotate")


def test_a_backup_is_whole_or_not_there_and_brings_everything_back(
    sanfran: Sanfran, hello: Path, tmp_path: Path
) -> None:
    sanfran.text("create", "saved", hello)
    file = tmp_path / "all.backup"
    assert f"{file} has everything" in sanfran.text("backup", file)
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == ["all.backup"]
    sanfran.text("delete", "saved")
    code, _, errors = sanfran.run("restore", file)
    assert (code, "-y says that you mean it" in errors) == (2, True)
    done = sanfran.json("restore", file, "-y")
    assert done["applied"] is True
    assert sanfran.json("get", "saved")["note"] == "restored from version 1"
    content = file.read_bytes()
    file.write_bytes(content[:-50])
    assert "no backup, or was cut off" in sanfran.refusal("restore", file, "-y")
    file.write_bytes(content[:1000] + b"x" + content[1001:])
    assert "was altered" in sanfran.refusal("restore", file, "-y")
    assert "No such file" in sanfran.refusal("backup", tmp_path / "none" / "all.backup")


def test_a_backup_replaces_files_and_nothing_else(sanfran: Sanfran, tmp_path: Path) -> None:
    pipe, link, file = tmp_path / "pipe", tmp_path / "latest", tmp_path / "today.backup"
    os.mkfifo(pipe)
    assert f"{pipe} is no file, such as a device" in sanfran.refusal("backup", pipe)
    assert pipe.is_fifo()
    link.symlink_to(file)
    sanfran.text("backup", link)
    assert link.is_symlink()
    assert sanfran.json("restore", file, "-y")["applied"] is True


def test_a_function_goes_back_to_what_it_was(sanfran: Sanfran, hello: Path) -> None:
    sanfran.text("create", "back", hello, "--timeout", "1")
    sanfran.text("update", "back", "--timeout", "2")
    sanfran.text("update", "back", "--timeout", "3")
    assert "back is live, version 4" in sanfran.text("rollback", "back")
    assert sanfran.json("rollback", "back", 1)["settings"]["timeout"] == 1
    versions = sanfran.json("versions", "back")
    notes = [(one["version"], one["note"]) for one in versions]
    assert notes == [(5, "rollback to 1"), (4, "rollback to 2"), (3, ""), (2, ""), (1, "")]
    table = sanfran.text("versions", "back").splitlines()
    assert table[0].split() == ["VERSION", "MADE", "BY", "CODE", "NOTE"]
    assert table[1].startswith("5 (current)")
    assert table[1].endswith("rollback to 1")


def test_a_restore_says_its_size_before_it_is_sent(sanfran: Sanfran, tmp_path: Path) -> None:
    file = tmp_path / "today.backup"
    sanfran.text("backup", file)
    heads: list[bytes] = []

    def refuse() -> None:
        client, _ = listening.accept()
        with client:
            heads.append(client.recv(65536))
            body = b'{"error": {"code": "too_large", "message": "backup: larger than 1 bytes"}}'
            client.sendall(
                b"HTTP/1.1 413 X\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
                % (len(body), body)
            )
            while client.recv(65536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        service = threading.Thread(target=refuse)
        service.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        error = sanfran.refusal("restore", file, "-y", "--server", url)
        service.join()
    assert "larger than 1 bytes" in error
    assert b"content-length: %d\r\n" % file.stat().st_size in heads[0].lower()
    assert b"transfer-encoding" not in heads[0].lower()
