"""Uploads to bundles: same files, same digest, whatever else an archive tells."""

import hashlib
import io
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from api.tests.archives import ARCHIVERS, CODE, Files, files_of, make_zip, packed, refused


@pytest.mark.parametrize(
    "name", ["hello.js", "x.mjs", "x.cjs", "x.ts", "C:\\fakepath\\x.js", "d/x.js"]
)
def test_a_single_file_keeps_its_name_and_is_the_entry(name: str) -> None:
    bundle = packed(CODE, name)
    own = name.replace("\\", "/").rpartition("/")[2]
    assert bundle.entry == own
    assert files_of(bundle) == {own: CODE}


def test_an_empty_file_is_a_function_too() -> None:
    assert files_of(packed(b"", "empty.js")) == {"empty.js": b""}


@pytest.mark.parametrize(
    "name", ["", "x", "x.py", "x.json", ".js", "x.js/", "x.JS", "x.tar.bz2", "zip"]
)
def test_what_is_no_code_is_refused_by_its_name(name: str) -> None:
    error = refused(CODE, name)
    assert repr(name) in error.message
    assert ".tgz" in error.message


def test_the_name_of_a_single_file_cannot_leave_the_folder() -> None:
    assert packed(CODE, "../../x.js").entry == "x.js"
    refused(CODE, "x\n.js")
    refused(CODE, "x" * 300 + ".js")


names = st.text(
    st.characters(
        min_codepoint=33,
        max_codepoint=0x2FFF,
        exclude_characters="/\\\x7f",
        exclude_categories=("Cs", "Cc"),
    ),
    min_size=1,
    max_size=40,
).filter(lambda part: part not in (".", "..", "__MACOSX", ".DS_Store"))
trees = st.dictionaries(
    st.lists(names, min_size=1, max_size=4).map("/".join), st.binary(max_size=2000), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(trees, st.randoms())
def test_the_same_files_give_the_same_digest_however_they_are_archived(
    tree: dict[str, bytes], random: Any
) -> None:
    tree["index.js"] = CODE
    assume(not any(other.startswith(path + "/") for path in tree for other in tree))
    digests = set()
    for name, archiver in ARCHIVERS:
        paths = list(tree)
        random.shuffle(paths)
        bundle = packed(archiver({path: tree[path] for path in paths}), name)
        content = bundle.content.read()
        assert bundle.size == len(content)
        assert bundle.digest == hashlib.sha256(content).digest()
        bundle.content.seek(0)
        assert files_of(bundle) == tree
        digests.add(bundle.digest)
    assert len(digests) == 1


def test_a_bundle_packed_again_is_the_same() -> None:
    tree = {"index.js": CODE, "a" * 120 + "/ü.txt": b"x", "b/c": b"y" * 1000}
    first = packed(make_zip(tree), "a.zip")
    again = packed(first.content.read(), "a.tar")
    assert again.digest == first.digest


def test_modes_keep_only_whether_a_file_can_be_run() -> None:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as archive:
        for name, mode in (("index.js", 0o666), ("run.sh", 0o4711)):
            info = tarfile.TarInfo(name)
            info.mode = mode
            archive.addfile(info)
    bundle = packed(into.getvalue(), "a.tar")
    with tarfile.open(fileobj=bundle.content, mode="r:") as archive:
        assert {info.name: info.mode for info in archive} == {"index.js": 0o644, "run.sh": 0o755}
        assert {(info.mtime, info.uid, info.gid, info.uname) for info in archive} == {(0, 0, 0, "")}


@pytest.mark.parametrize(("name", "archiver"), ARCHIVERS)
def test_a_lone_top_folder_is_stripped(name: str, archiver: Callable[[Files], bytes]) -> None:
    tree = {"repo-main/index.js": CODE, "repo-main/lib/a.js": b"a"}
    assert files_of(packed(archiver(tree), name)) == {"index.js": CODE, "lib/a.js": b"a"}


def test_a_top_folder_beside_something_else_stays() -> None:
    tree = {"lib/index.js": CODE, "index.js": CODE}
    assert set(files_of(packed(make_zip(tree), "a.zip"))) == set(tree)


def test_what_macos_adds_is_left_out() -> None:
    tree = {"f/index.js": CODE, "f/.DS_Store": b"", "__MACOSX/f/._index.js": b"x"}
    assert files_of(packed(make_zip(tree), "a.zip")) == {"index.js": CODE}


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(names, st.tuples(st.binary(max_size=300), st.integers(0, 0o7777)), max_size=5),
    st.lists(st.integers(0, 2**31 - 1), min_size=2, max_size=2),
)
def test_times_owners_and_all_modes_but_executable_change_nothing(
    tree: dict[str, tuple[bytes, int]], times: list[int]
) -> None:
    tree["index.js"] = (CODE, 0o644)
    digests = set()
    for at in times:
        for mask in (0, 0o7666):
            into = io.BytesIO()
            with tarfile.open(fileobj=into, mode="w") as archive:
                for name, (content, mode) in tree.items():
                    info = tarfile.TarInfo(name)
                    # The same bits for running it, any others.
                    info.mode = (mode & 0o111) | (mask & ~0o111) | (0o444 if not mask else 0)
                    info.size, info.mtime, info.uid, info.uname = len(content), at, at % 1000, "x"
                    archive.addfile(info, io.BytesIO(content))
            digests.add(packed(into.getvalue(), "a.tar").digest)
    assert len(digests) == 1
