"""A service that builds with real npm, against a registry on loopback."""

import io
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.npm_registry import NpmRegistry

INDEX = "module.exports = (req, res) => res.send(require('left')('x'));\n"


def tar(files: dict[str, str]) -> bytes:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content.encode())
            archive.addfile(info, io.BytesIO(content.encode()))
    return into.getvalue()


@pytest.fixture
def registry() -> Iterator[NpmRegistry]:
    with NpmRegistry() as running:
        running.add("left", {"index.js": "module.exports = (text) => 'left ' + text;\n"})
        running.add("right", {"index.js": "module.exports = 1;\n"})
        yield running


@pytest.fixture
def settings(registry: NpmRegistry, tmp_path: Path) -> dict[str, Any]:
    """Of a service whose builds know no registry but ours, whatever this machine's npm knows."""
    config = tmp_path / "npmrc"
    config.write_text("fetch-retries=0\n")
    return {"npm_registry": registry.url, "npm_config": str(config)}


@pytest.fixture
async def api(run_api: Any, settings: dict[str, Any]) -> AsyncIterator[Any]:
    async with run_api(**settings) as running:
        yield running


def locked(registry: NpmRegistry, *names: str, **files: str) -> bytes:
    return tar({**registry.lock(*names), "index.js": INDEX, **files})


async def send(
    api: Any, name: str, code: bytes, *, update: bool = False, lines: bool = False, **fields: str
) -> httpx.Response:
    headers = {"accept": "application/x-ndjson"} if lines else {}
    files = {"file": ("a.tar", code)}
    answer: httpx.Response
    if update:
        path = f"functions/{name}"
        answer = await api.http.put(path, data=fields, files=files, headers=headers)
    else:
        fields = {"name": name, **fields}
        answer = await api.http.post("functions", data=fields, files=files, headers=headers)
    return answer


async def files_of(api: Any, digest: str) -> dict[str, bytes]:
    content = io.BytesIO(await api.bundle(digest))
    with tarfile.open(fileobj=content, mode="r:") as archive:
        return {one.name: _read(archive, one) for one in archive}


def _read(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info) if info.isreg() else None
    return file.read() if file is not None else b""


def refusal(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == "build_failed"
    message: str = error["message"]
    return message


def leftovers(data: Path) -> list[Path]:
    return list((data / "builds/running").iterdir())
