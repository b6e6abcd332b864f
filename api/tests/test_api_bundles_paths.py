"""Uploads to bundles: no path and no link leaves the folder."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable

import pytest
from sanfran_api.bundles.layout import Layout, Limits
from sanfran_api.errors import BadRequest, TooLarge

from api.tests.archives import (
    ARCHIVERS,
    CODE,
    Files,
    entry,
    files_of,
    make_tar,
    make_zip,
    packed,
    refused,
)

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


def test_tangled_links_do_not_take_long() -> None:
    layout = Layout(Limits(upload_bytes=0, unpacked_bytes=0, files=50_000))
    layout.add_file("index.js", 0, False, io.BytesIO)
    for number in range(3000):
        layout.add_link(f"l{number}", "a/../" * 200 + f"l{number + 1}")
    with pytest.raises(BadRequest, match="goes in circles"):
        layout.finish()


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
