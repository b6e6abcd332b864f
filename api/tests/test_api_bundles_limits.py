"""Uploads to bundles: limits hold, and what is damaged or lies is refused."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sanfran_api.errors import BadRequest, TooLarge

from api.tests.archives import (
    ARCHIVERS,
    CODE,
    LIMITS,
    Files,
    make_tar,
    make_zip,
    pack,
    packed,
    refused,
    spool,
)


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


def test_packing_ends_when_nobody_waits_any_more() -> None:
    class Gone(Exception):
        pass

    def check() -> None:
        raise Gone

    with pytest.raises(Gone):
        pack(io.BytesIO(CODE), "a.js", LIMITS, spool, check)
