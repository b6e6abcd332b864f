"""Uploads to bundles: same files, same digest; nothing leaves the folder; limits hold."""

import gzip
import hashlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import IO, Any

import pytest
import zstandard
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sanfran_api.bundles.layout import Layout, Limits
from sanfran_api.bundles.pack import Bundle, open_upload, write_bundle
from sanfran_api.errors import ApiError, BadRequest, TooLarge

LIMITS = Limits(upload_bytes=10_000_000, unpacked_bytes=1_000_000, files=100)
CODE = b"module.exports = () => {}\n"


def spool() -> IO[bytes]:
    return io.BytesIO()


def pack(
    file: IO[bytes],
    name: str,
    limits: Limits,
    spool: Callable[[], IO[bytes]],
    check_wanted: Callable[[], None],
) -> Bundle:
    """What `Packer.pack` does in its threads, without a build."""
    opened = open_upload(file, name, limits, spool, check_wanted)
    with opened.files:
        return write_bundle(opened.layout, opened.entry, None, spool, check_wanted)


def packed(content: bytes, name: str, limits: Limits = LIMITS) -> Bundle:
    """The bundle with its tar as content, which is what its digest is of."""
    made = pack(io.BytesIO(content), name, limits, spool, lambda: None)
    compressed = made.content.read()
    assert len(compressed) == made.stored
    tar = zstandard.ZstdDecompressor().decompressobj().decompress(compressed)
    assert len(tar) == made.size
    return replace(made, content=io.BytesIO(tar))


def refused(content: bytes, name: str, limits: Limits = LIMITS) -> ApiError:
    with pytest.raises(ApiError) as caught:
        packed(content, name, limits)
    assert caught.value.http_status in (400, 413)
    return caught.value


def files_of(bundle: Bundle) -> dict[str, bytes | str]:
    """Content by path; a link's target as text."""
    found: dict[str, bytes | str] = {}
    with tarfile.open(fileobj=bundle.content, mode="r:") as archive:
        for info in archive:
            if info.issym():
                found[info.name] = info.linkname
            else:
                file = archive.extractfile(info)
                assert file is not None
                found[info.name] = file.read()
    return found


Files = Mapping[str, bytes]


def make_zip(files: Files) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return into.getvalue()


def make_tar(files: Files, *extra: tarfile.TarInfo, mode: str = "w") -> bytes:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid = len(content), 12345, 1000
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return into.getvalue()


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def make_tgz(files: Files) -> bytes:
    return make_tar(files, mode="w:gz")


ARCHIVERS: list[tuple[str, Callable[[Files], bytes]]] = [
    ("a.zip", make_zip),
    ("a.tgz", make_tgz),
    ("a.tar.gz", make_tgz),
    ("a.tar", make_tar),
    ("A.ZIP", make_zip),
]


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


ESCAPES = [
    "../x.js",
    "a/../../x",
    "/etc/x",
    "a/..",
    "./../x",
    "..",
    "\\x",
    "a\\..\\x",
    "//x",
    "a\x01b",
    "a\nb",
]


@pytest.mark.parametrize(("name", "archiver"), ARCHIVERS[1:4])
@pytest.mark.parametrize("path", ESCAPES)
def test_a_path_that_could_leave_the_folder_is_refused_by_name(
    path: str, name: str, archiver: Callable[[Files], bytes]
) -> None:
    error = refused(archiver({"index.js": CODE, path: b"x"}), name)
    assert repr(path) in error.message


@pytest.mark.parametrize("path", ["../x.js", "/etc/x", "a/../../x", "a\\..\\x"])
def test_the_same_in_a_zip(path: str) -> None:
    assert repr(path) in refused(make_zip({"index.js": CODE, path: b"x"}), "a.zip").message


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused_by_name(kind: bytes) -> None:
    content = make_tar({"index.js": CODE}, entry("dev/null", kind))
    assert "'dev/null' is a device" in refused(content, "a.tar").message


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused() -> None:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        archive.writestr("index.js", CODE)
        archive.writestr("index.js", b"other")
    assert "'index.js' is in the archive twice" in refused(into.getvalue(), "a.zip").message
    twice = make_tar({"index.js": CODE, "./index.js": b"other"})
    assert "'index.js' is in the archive twice" in refused(twice, "a.tar").message


@pytest.mark.parametrize("order", [("a", "a/b"), ("a/b", "a")])
def test_a_name_that_is_file_and_folder_is_refused(order: tuple[str, str]) -> None:
    content = make_tar({"index.js": CODE} | dict.fromkeys(order, b""))
    assert "'a' is both a file and a folder" in refused(content, "a.tar").message


@pytest.mark.parametrize(
    ("links", "says"),
    [
        ({"l": "../x"}, "'l' leads out of the folder"),
        ({"l": "/etc/passwd"}, "'/etc/passwd', outside"),
        ({"a/l": "../../x"}, "'a/l' leads out of the folder"),
        ({"l": "l"}, "goes in circles"),
        ({"l": "m", "m": "l"}, "goes in circles"),
        # Each looks harmless alone: the second leads through the first.
        ({"d/e/up": "../..", "l": "d/e/up/../x"}, "leads out of the folder"),
        ({"l": ""}, "no usable target"),
    ],
)
def test_a_link_that_leaves_the_folder_is_refused_by_name(links: dict[str, str], says: str) -> None:
    extra = [entry(name, tarfile.SYMTYPE, target) for name, target in links.items()]
    assert says in refused(make_tar({"index.js": CODE}, *extra), "a.tar").message


def test_a_file_behind_a_link_is_refused() -> None:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as archive:
        archive.addfile(entry("index.js", tarfile.REGTYPE))
        archive.addfile(entry("l", tarfile.SYMTYPE, "."))
        archive.addfile(entry("l/x", tarfile.REGTYPE))
    assert "'l/x' lies behind the link 'l'" in refused(into.getvalue(), "a.tar").message


def test_links_inside_the_folder_stay_links() -> None:
    links = {"bin/x": "../lib/x.js", "self": "lib", "index.js": "self/x.js", "gone": "nowhere"}
    extra = [entry(name, tarfile.SYMTYPE, target) for name, target in links.items()]
    bundle = packed(make_tar({"lib/x.js": CODE}, *extra), "a.tar")
    assert files_of(bundle) == {"lib/x.js": CODE, **links}
    assert bundle.entry == "index.js"


def test_a_symbolic_link_in_a_zip_is_one() -> None:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        archive.writestr("index.js", CODE)
        info = zipfile.ZipInfo("l")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "index.js")
        info = zipfile.ZipInfo("fifo")
    assert files_of(packed(into.getvalue(), "a.zip"))["l"] == "index.js"


def test_a_hard_link_becomes_a_copy_and_counts_as_one() -> None:
    big = b"x" * 600_000
    link = entry("copy", tarfile.LNKTYPE, "index.js")
    assert files_of(packed(make_tar({"index.js": CODE}, link), "a.tar"))["copy"] == CODE
    link = entry("copy", tarfile.LNKTYPE, "big")
    assert isinstance(refused(make_tar({"index.js": CODE, "big": big}, link), "a.tar"), TooLarge)
    link = entry("copy", tarfile.LNKTYPE, "/etc/passwd")
    refused(make_tar({"index.js": CODE}, link), "a.tar")
    link = entry("copy", tarfile.LNKTYPE, "nothing")
    assert "no file before it" in refused(make_tar({"index.js": CODE}, link), "a.tar").message


@pytest.mark.parametrize(("name", "archiver"), ARCHIVERS)
def test_too_many_bytes_are_refused(name: str, archiver: Callable[[Files], bytes]) -> None:
    content = archiver({"index.js": CODE, "zeros": bytes(1_000_000)})
    error = refused(content, name)
    assert isinstance(error, TooLarge)
    assert "more than 1000000 bytes" in error.message


@pytest.mark.parametrize(("name", "archiver"), ARCHIVERS)
def test_too_many_files_are_refused(name: str, archiver: Callable[[Files], bytes]) -> None:
    content = archiver({"index.js": CODE} | {f"f{n}": b"" for n in range(100)})
    assert "more than 100 files" in refused(content, name).message


def test_a_gzip_bomb_is_refused_while_it_is_read() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    written = 0

    class Counting(io.BytesIO):
        def write(self, part: Any) -> int:
            nonlocal written
            written += len(part)
            return super().write(part)

    with pytest.raises(TooLarge):
        pack(io.BytesIO(bomb), "a.tgz", LIMITS, Counting, lambda: None)
    assert written < 2_000_000


def test_a_zip_that_lies_about_a_size_is_refused() -> None:
    content = bytearray(make_zip({"index.js": CODE, "zeros": bytes(900_000)}))
    honest = (900_000).to_bytes(4, "little")
    assert content.count(honest) == 2
    lying = bytes(content).replace(honest, (10).to_bytes(4, "little"))
    refused(lying, "a.zip")
    lying = bytes(content).replace(honest, (910_000).to_bytes(4, "little"))
    refused(lying, "a.zip")


def test_a_zip_with_a_directory_of_many_entries_is_refused_before_it_is_read() -> None:
    content = make_zip({"index.js": CODE} | {f"f{n}": b"" for n in range(500)})
    at = content.rfind(b"PK\5\6")
    lying = content[: at + 8] + b"\2\0\2\0" + content[at + 12 :]  # says two entries
    assert "more than 100 files" in refused(lying, "a.zip").message


def test_headers_about_headers_are_bounded() -> None:
    info = tarfile.TarInfo("index.js")
    info.pax_headers = {"comment": "x" * 500_000}
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    assert "header in the archive" in refused(into.getvalue(), "a.tar").message


def test_an_encrypted_or_rarely_compressed_zip_is_refused() -> None:
    content = bytearray(make_zip({"index.js": CODE}))
    at = content.find(b"PK\1\2")
    content[at + 8] |= 1
    assert "encrypted" in refused(bytes(content), "a.zip").message
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("index.js", CODE)
    assert "rare way" in refused(into.getvalue(), "a.zip").message


@pytest.mark.parametrize(("name", "archiver"), ARCHIVERS)
def test_an_archive_without_files_is_refused(name: str, archiver: Callable[[Files], bytes]) -> None:
    assert "no files" in refused(archiver({}), name).message
    assert refused(b"", name).http_status == 400
    assert refused(b"nonsense" * 1000, name).http_status == 400


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(ARCHIVERS),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 10_000),
)
def test_a_damaged_archive_is_refused_or_read_whole(
    kind: tuple[str, Callable[[Files], bytes]], flips: list[tuple[int, int]], cut: int
) -> None:
    name, archiver = kind
    content = bytearray(archiver({"index.js": CODE, "lib/a.js": b"x" * 3000, "b": b"y" * 50}))
    for at, value in flips:
        content[at % len(content)] = value
    if cut < len(content) // 2:
        del content[-cut - 1 :]
    with suppress(BadRequest):  # any other exception is a failure
        bundle = packed(bytes(content), name)
        assert bundle.digest == hashlib.sha256(bundle.content.read()).digest()


def test_a_tar_cut_after_its_first_file_is_refused() -> None:
    content = bytearray(make_tar({"index.js": CODE, "lib.js": b"x" * 600}))
    content[1024 + 148] ^= 0xFF  # the second header's checksum
    assert "damaged" in refused(bytes(content), "a.tar").message


def test_tangled_links_do_not_take_long() -> None:
    layout = Layout(Limits(upload_bytes=0, unpacked_bytes=0, files=50_000))
    layout.add_file("index.js", 0, False, io.BytesIO)
    for number in range(3000):
        layout.add_link(f"l{number}", "a/../" * 200 + f"l{number + 1}")
    with pytest.raises(BadRequest, match="goes in circles"):
        layout.finish()


def test_packing_ends_when_nobody_waits_any_more() -> None:
    class Gone(Exception):
        pass

    def check() -> None:
        raise Gone

    with pytest.raises(Gone):
        pack(io.BytesIO(CODE), "a.js", LIMITS, spool, check)


def zip_of(*entries: tuple[str, int]) -> bytes:
    """Entries with modes as Unix has them."""
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        archive.writestr("index.js", CODE)
        for name, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, b"/etc/passwd" if stat.S_ISLNK(mode) else b"")
    return into.getvalue()


TARS = {"a.tar": "w", "a.tgz": "w:gz", "a.tar.gz": "w:gz"}


@pytest.mark.parametrize("name", ["a.zip", *TARS])
@pytest.mark.parametrize("what", ["device", "fifo", "absolute", "up", "link", "link up"])
def test_whatever_the_archive_what_is_no_file_of_the_folder_is_refused_by_name(
    name: str, what: str
) -> None:
    path = {"absolute": "/etc/odd", "up": "../odd"}.get(what, "odd")
    if name == "a.zip":
        mode = {"device": stat.S_IFBLK, "fifo": stat.S_IFIFO}.get(what, stat.S_IFREG)
        content = zip_of((path, stat.S_IFLNK | 0o777 if "link" in what else mode | 0o644))
    else:
        kind = {"device": tarfile.BLKTYPE, "fifo": tarfile.FIFOTYPE}.get(what, tarfile.REGTYPE)
        target = {"link": "/etc/passwd", "link up": "../../etc/passwd"}.get(what, "")
        odd = entry(path, tarfile.SYMTYPE if target else kind, target)
        content = make_tar({"index.js": CODE}, odd, mode=TARS[name])
    assert "odd" in refused(content, name).message


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
