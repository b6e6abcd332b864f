"""Code that is larger than the service takes, against a real api service with a low limit."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sanfran_cli.client import Client, Refused
from sanfran_cli.client.functions import ASK_FROM_BYTES

from .conftest import Sanfran, running_api

LIMIT = ASK_FROM_BYTES + 1000


@pytest.fixture(scope="module")
def low(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("low")
    with running_api(data, "--max-upload-bytes", str(LIMIT)) as url:
        yield url


def code_of(folder: Path, size: int) -> Path:
    path = folder / "large.js"
    start = b"module.exports = (req, res) => res.send('hi'); //"
    path.write_bytes(start.ljust(size, b"x"))
    return path


async def test_nothing_is_sent_of_what_is_too_large(low: str, tmp_path: Path) -> None:
    parts: list[int] = []
    path = code_of(tmp_path, LIMIT + 1)
    async with Client(low) as client:
        for call in (client.create, client.update):
            with pytest.raises(Refused, match=f"large.js: {LIMIT + 1} bytes, .* {LIMIT} at most"):
                await call("large", path, sent=parts.append)
        assert parts == []
        assert (await client.create("large", code_of(tmp_path, LIMIT)))["version"] == 1


def test_the_command_line_says_so(low: str, tmp_path: Path) -> None:
    sanfran = Sanfran(low)
    path = code_of(tmp_path, LIMIT + 1)
    assert f"the service takes {LIMIT} at most" in sanfran.refusal("create", "too-large", path)
    (tmp_path / "sanfran.yaml").write_text("functions: {too-large: {path: large.js}}")
    code, out, _ = sanfran.run("deploy", "-f", tmp_path / "sanfran.yaml")
    assert code == 1
    assert f"the service takes {LIMIT} at most" in out
