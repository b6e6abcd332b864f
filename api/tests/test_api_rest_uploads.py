"""Uploads over REST: archives, limits, and clients that leave or stand still."""

import asyncio
import io
import random
import tarfile
import zipfile
from typing import Any

import httpx
import pytest

from api.tests.answers import CODE, error_of, names


async def test_a_folder_comes_as_an_archive(api: Any) -> None:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        archive.writestr("repo/package.json", '{"main": "src/app.js"}')
        archive.writestr("repo/src/app.js", CODE)
    files = {"file": ("repo.zip", into.getvalue())}
    made = await api.http.post("functions", data={"name": "folder"}, files=files)
    assert made.json()["entry"] == "src/app.js"


async def test_what_is_wrong_in_an_archive_is_wrong_with_the_file(api: Any) -> None:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        archive.writestr("../x.js", CODE)
    files = {"file": ("a.zip", into.getvalue())}
    answer = await api.http.post("functions", data={"name": "folder"}, files=files)
    error = answer.json()["error"]
    assert (answer.status_code, error["field"]) == (400, "file")
    assert "'../x.js' goes out of the folder" in error["message"]


@pytest.mark.parametrize("size", [10, 3_000_000])
@pytest.mark.parametrize(
    ("name", "mode"), [("a.tgz", "w:gz"), ("a.tar.gz", "w:gz"), ("a.tar", "w")]
)
async def test_an_archive_is_read_from_memory_and_from_disk(
    api: Any, name: str, mode: str, size: int
) -> None:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode=mode) as archive:  # type: ignore[call-overload]
        for path, content in (("index.js", CODE), ("data", random.randbytes(size))):
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    files = {"file": (name, into.getvalue())}
    made = await api.http.post("functions", data={"name": "a"}, files=files)
    assert made.status_code == 201, made.text
    bundle = await api.bundle(made.json()["digest"])
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        assert archive.getnames() == ["data", "index.js"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("", b""),
        ("application/json", b"{}"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"nonsense"),
        ("multipart/form-data; boundary=b", b"--b\r\n"),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\na',
        ),
        ("multipart/form-data; boundary=" + "b" * 5000, b""),
    ],
)
async def test_a_body_that_is_no_whole_form_is_refused(
    api: Any, content_type: str, body: bytes
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    error_of(await api.http.post("functions", content=body, headers=headers), 400)
    assert await names(api) == []


async def test_uploads_over_a_limit_get_413(run_api: Any) -> None:
    async with run_api(max_upload_bytes=200_000, max_unpacked_bytes=300_000, max_files=3) as api:
        for size in (200_001, 3_000_000):
            error = error_of(await api.create("a", bytes(size)), 413)
            assert error["message"] == "file: larger than 200000 bytes"

        async def endless() -> Any:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.js"\r\n\r\n'
            for _ in range(50):
                yield bytes(100_000)

        headers = {"content-type": "multipart/form-data; boundary=b"}
        error_of(await api.http.post("functions", content=endless(), headers=headers), 413)
        for files in (
            {"index.js": bytes(300_001)},
            dict.fromkeys(("index.js", "1", "2", "3"), b""),
        ):
            into = io.BytesIO()
            with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
            parts = {"file": ("a.zip", into.getvalue())}
            error_of(await api.http.post("functions", data={"name": "a"}, files=parts), 413)
        assert await names(api) == []
        assert (await api.create("a", bytes(199_000))).status_code == 201


HEAD = (
    "POST /api/v1/functions HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5000\r\n"
    "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    '--b\r\nContent-Disposition: form-data; name="name"\r\n\r\ngone\r\n'
    '--b\r\nContent-Disposition: form-data; name="file"; filename="a.js"\r\n\r\nmodule'
)


async def begun_upload(api: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = api.life.addresses["http"].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(HEAD.format(host=api.life.addresses["http"]).encode())
    await writer.drain()
    return reader, writer


async def test_a_client_that_leaves_in_the_middle_stores_nothing(run_api: Any) -> None:
    async with run_api(max_uploads=1) as api:
        _, writer = await begun_upload(api)
        async with asyncio.timeout(5):
            while error_code(await api.create("other")) != "busy":  # until it has its place
                await api.http.delete("functions/other")
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(5):
            while (await api.create("after")).status_code != 201:
                pass
        assert await names(api) in (["after"], ["after", "other"])


def error_code(answer: httpx.Response) -> str:
    if answer.status_code == 503:
        assert answer.headers["retry-after"] == "1"
    return str(answer.json().get("error", {}).get("code", ""))


async def test_an_upload_that_stands_still_is_ended(run_api: Any) -> None:
    async with run_api(upload_idle_timeout=0.2) as api:
        reader, writer = await begun_upload(api)
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        writer.close()
        await writer.wait_closed()
        assert await names(api) == []
