"""What is uploaded."""

import os
import socket
import tarfile
from pathlib import Path

import pytest
from sanfran_cli.errors import Refused
from sanfran_cli.pack import fingerprint, folder_bytes, open_upload


def packed_names(folder: Path) -> list[str]:
    with open_upload(folder) as upload, tarfile.open(fileobj=upload.content, mode="r:gz") as tar:
        return tar.getnames()


def test_a_file_goes_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "hello.mjs"
    path.write_text("export default 1")
    with open_upload(path) as upload:
        assert (upload.file_name, upload.size) == ("hello.mjs", 16)
        assert upload.content.read() == b"export default 1"


def test_a_folder_is_packed_in_order_without_its_history(tmp_path: Path) -> None:
    folder = tmp_path / "hello"
    for name in ("b/c.js", "a.js", ".git/objects/1", "b/.git/HEAD", ".hidden", "node_modules/x.js"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    seen: list[int] = []
    with open_upload(folder, seen.append) as upload:
        assert upload.file_name == "hello.tgz"
        assert upload.size == len(upload.content.read())
    assert sum(seen) == folder_bytes(folder)
    names = [".hidden", "a.js", "b", "b/c.js", "node_modules", "node_modules/x.js"]
    assert packed_names(folder) == names


def test_the_folder_one_stands_in_has_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_upload(Path(".")) as upload:
        assert upload.file_name == f"{tmp_path.name}.tgz"


def test_links_stay_links_and_second_names_become_files(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("a")
    (tmp_path / "link.js").symlink_to("a.js")
    os.link(tmp_path / "a.js", tmp_path / "z.js")
    with open_upload(tmp_path) as upload, tarfile.open(fileobj=upload.content) as tar:
        assert tar.getmember("link.js").linkname == "a.js"
        file = tar.extractfile("z.js")
        assert tar.getmember("z.js").isreg()
        assert file is not None
        assert file.read() == b"a"


def test_nothing_of_the_packer_is_in_the_archive(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("a")
    with open_upload(tmp_path) as upload, tarfile.open(fileobj=upload.content) as tar:
        member = tar.getmember("a.js")
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")


def test_a_socket_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("s.sock")
        with pytest.raises(Refused, match=r"s\.sock is a socket"), open_upload(tmp_path):
            pass


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hello.js")
    with pytest.raises(Refused, match=r"hello\.js is a device"), open_upload(tmp_path / "hello.js"):
        pass


def test_neither_is_one_whose_fingerprint_is_asked_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.js")
    with pytest.raises(Refused, match=r"pipe\.js is a device or the like"):
        fingerprint(tmp_path / "pipe.js")


def test_a_name_that_is_not_utf_8_is_refused_unless_it_is_left_out(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.js")
    odd.write_text("")
    for path in (odd, tmp_path):
        with pytest.raises(Refused, match=r"caf.xe9.js': the name is not UTF-8"):
            fingerprint(path)
        with pytest.raises(Refused, match="UTF-8"), open_upload(path):
            pass
    (tmp_path / ".sanfranignore").write_text("*.js")
    assert packed_names(tmp_path) == []


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="gone: No such file"), open_upload(tmp_path / "gone"):
        pass


def test_what_sanfranignore_names_is_left_out(tmp_path: Path) -> None:
    files = ("a.js", "b.log", "keep.log", "node_modules/x.js", "sub/c.log", "sub/sanfran.yaml")
    for name in (*files, "sanfran.yaml", ".gitignore"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    ignore = "# comment\n*.log\n!keep.log\n/node_modules/\n"
    (tmp_path / ".sanfranignore").write_text(ignore)
    assert packed_names(tmp_path) == [".gitignore", "a.js", "keep.log", "sub", "sub/sanfran.yaml"]


def test_a_wrong_sanfranignore_is_named(tmp_path: Path) -> None:
    (tmp_path / ".sanfranignore").write_text("a\n!\n")
    with pytest.raises(Refused, match=r"\.sanfranignore"), open_upload(tmp_path):
        pass


def test_a_fingerprint_knows_names_contents_modes_and_links_and_nothing_else(
    tmp_path: Path,
) -> None:
    def make(name: str) -> Path:
        folder = tmp_path / name
        (folder / "sub").mkdir(parents=True)
        (folder / "a.js").write_text("a")
        (folder / "sub/b.js").write_text("b")
        (folder / "link").symlink_to("a.js")
        return folder

    one, two = make("one"), make("two")
    os.utime(two / "a.js", (1, 1))
    (two / "empty").mkdir()
    assert fingerprint(one) == fingerprint(two)
    seen = {fingerprint(one), fingerprint(one, build=False)}
    (two / "a.js").chmod(0o755)
    seen.add(fingerprint(two))
    (two / "a.js").chmod(0o644)
    (two / "link").unlink()
    (two / "link").symlink_to("sub/b.js")
    seen.add(fingerprint(two))
    (two / "sub/b.js").rename(two / "sub/c.js")
    seen.add(fingerprint(two))
    assert len(seen) == 5
