"""What an archive may hold and what not."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sanfran_sidecar.errors import BundleRefused
from sanfran_sidecar.folders import remove_tree
from sanfran_sidecar.unpack import Limits, only_file, unpack

LIMITS = Limits(bytes=10_000, files=10)


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


def archive(*members: tarfile.TarInfo, content: bytes = b"x") -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for one in members:
            if one.isreg():
                one.size = len(content)
            tar.addfile(one, io.BytesIO(content))
    made.seek(0)
    return made


def link(name: str, target: str) -> tarfile.TarInfo:
    return member(name, tarfile.SYMTYPE, target)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


def test_files_folders_and_inner_links_are_unpacked_read_only(root: Path) -> None:
    long_name = "lib/" + "ü" * 90 + "/x.js"
    used = unpack(
        archive(
            member("a.js"),
            member("bin/run", mode=0o755),
            member("empty", tarfile.DIRTYPE),
            member("lib/deep/b.js"),
            member(long_name),
            link("lib/bin/run", "../../bin/./run"),
            link("lib/self", "deep/../deep/b.js"),
            link("dangling", "nowhere/yet"),
            content=b"12345",
        ),
        root,
        LIMITS,
    )
    assert (root / "a.js").read_bytes() == b"12345"
    assert (root / long_name).is_file()
    assert (root / "lib/bin/run").resolve() == (root / "bin/run").resolve()
    assert (root / "lib/self").read_bytes() == b"12345"
    modes = {
        path: (root / path).stat().st_mode & 0o777 for path in ("", "a.js", "bin/run", "empty")
    }
    assert modes == {"": 0o555, "a.js": 0o444, "bin/run": 0o555, "empty": 0o555}
    assert used == (4 + 7 + 3) * 4096
    remove_tree(root)
    assert not root.exists()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (member("/etc/passwd"), "absolute"),
        (member("../x"), "leaves the folder"),
        (member("a/../../x"), "leaves the folder"),
        (member("a//b"), "plain path"),
        (member("./a"), "plain path"),
        (member("n" * 1025), "plain path"),
        (member("dev", tarfile.CHRTYPE), "neither"),
        (member("dev", tarfile.BLKTYPE), "neither"),
        (member("pipe", tarfile.FIFOTYPE), "neither"),
        (member("hard", tarfile.LNKTYPE, "a"), "neither"),
        (member("odd", b"Z"), "neither"),
        (link("l", "/etc/passwd"), "absolute"),
        (link("l", ".."), "out of the folder"),
        (link("a/l", "../../x"), "out of the folder"),
        (link("l", "\udcff" * 1025), "no usable target"),
    ],
)
def test_what_could_leave_the_folder_is_refused_by_name(
    root: Path, bad: tarfile.TarInfo, why: str
) -> None:
    with pytest.raises(BundleRefused, match=why) as refused:
        unpack(archive(bad), root, LIMITS)
    assert repr(bad.name) in str(refused.value)
    assert not os.listdir(root) or bad.issym()


def test_a_link_that_leads_out_over_another_link_is_refused(root: Path) -> None:
    with pytest.raises(BundleRefused, match="'deep/er/out': links out of the folder"):
        unpack(archive(link("deep/er/top", "../.."), link("deep/er/out", "top/../x")), root, LIMITS)


def test_nothing_is_written_through_a_link(root: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="'out': occurs twice"):
        unpack(archive(link("out", "../elsewhere"), member("out/x")), root, LIMITS)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([member("a"), member("a")], "'a': occurs twice"),
        ([member("a"), member("a/b")], "'a'.*(twice|below a file)"),
        ([member("a"), link("a", "b")], "'a': occurs twice"),
        ([member(str(n)) for n in range(11)], "more than 10 files"),
    ],
)
def test_contradictions_and_too_many_files_are_refused(
    root: Path, members: list[tarfile.TarInfo], why: str
) -> None:
    with pytest.raises(BundleRefused, match=why):
        unpack(archive(*members), root, LIMITS)


def test_too_many_bytes_are_refused_before_they_are_written(root: Path) -> None:
    with pytest.raises(BundleRefused, match="more than 10000 bytes"):
        unpack(archive(member("a"), member("b"), content=b"x" * 6000), root, LIMITS)
    assert not (root / "b").exists()


@pytest.mark.parametrize("cut", [100, 700])
def test_half_an_archive_is_refused(root: Path, cut: int) -> None:
    whole = archive(member("a"), content=b"x" * 600).getvalue()
    with pytest.raises(BundleRefused):
        unpack(io.BytesIO(whole[:cut]), root, LIMITS)


def test_numbers_that_are_none_are_refused(root: Path) -> None:
    odd = member("a")
    odd.pax_headers = {"GNU.sparse.map": "1,x"}
    with pytest.raises(BundleRefused, match="not a tar"):
        unpack(archive(odd), root, LIMITS)


def test_a_name_that_no_file_system_takes_is_refused(root: Path) -> None:
    with pytest.raises(BundleRefused, match="more than 255 bytes"):
        unpack(archive(member("ü" * 128)), root, LIMITS)


def test_a_tree_is_removed_whatever_is_in_it_and_no_link_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    tree = tmp_path / "tree"
    for folder in ("a/b/c", "a/d", "e"):
        (tree / folder).mkdir(parents=True)
        (tree / folder / "file").touch()
    (tree / "a" / "link").symlink_to(outside)
    (tree / "link").symlink_to(outside)
    os.mkfifo(tree / "a" / "pipe")
    for folder in ("a/b", "a", "."):
        (tree / folder).chmod(0)
    remove_tree(tree)
    remove_tree(tree)
    assert os.listdir(tmp_path) == ["outside"]
    assert os.listdir(outside) == ["kept"]


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    found = {str(path.relative_to(root)): path for path in root.rglob("*")}
    return {name: (path.stat().st_mode, path.read_bytes()) for name, path in found.items()}


@given(
    name=st.sampled_from(["a.js", "..", ".", "a/b.js", "/a", "ü", "n" * 256, "n" * 255, "a\0b"])
    | st.text(max_size=120),
    kind=st.sampled_from(
        [tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, b"Z"]
    ),
    mode=st.integers(0, 0o7777),
    content=st.binary(max_size=1500) | st.binary(min_size=9_999, max_size=10_001),
    end=st.sampled_from([b"", bytes(512), bytes(1024), b"x" * 512, bytes(100), bytes(511) + b"x"]),
)
def test_what_is_taken_for_one_file_is_what_the_whole_reader_makes_of_it(
    name: str, kind: bytes, mode: int, content: bytes, end: bytes
) -> None:
    made = member(name, kind, mode=mode)
    made.size = len(content)
    try:
        head = made.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    except (ValueError, UnicodeError):
        return
    bundle = head + content + bytes(-len(content) % 512) + end
    found = only_file(bundle)
    if found is None:
        return

    def outcome(write: Callable[[Path], int]) -> object:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "root"
            root.mkdir()
            try:
                used = write(root)
                return used, root.stat().st_mode, tree(root)
            except BundleRefused as error:
                return str(error)
            finally:
                root.chmod(0o700)

    def from_spare(root: Path) -> int:
        (root / "spare file").touch(0o600)
        return found.write(root, "spare file", LIMITS)

    whole = outcome(lambda root: unpack(io.BytesIO(bundle), root, LIMITS))
    assert outcome(from_spare) == whole
