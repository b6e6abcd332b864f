"""Pages of many functions, which leave the event loop to others."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from sanfran_api.rest import models
from sanfran_api.rest.pages import AT_ONCE, Page


async def sent(page: Page) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def none() -> dict[str, Any]:
        raise AssertionError("nobody asks")

    await page({"type": "http"}, none, send)
    return messages


@pytest.mark.parametrize("count", [0, 1, AT_ONCE, AT_ONCE + 1, 4 * AT_ONCE])
async def test_a_page_is_the_same_json_however_many_pieces_it_has(count: int) -> None:
    functions = [{"name": f"f{number}"} for number in range(count)]
    start, *bodies = await sent(await Page.of(functions, "ü", {"link": "<x>"}))
    content = b"".join(one["body"] for one in bodies)
    assert json.loads(content) == {"functions": functions, "next_after": "ü"}
    headers = dict(start["headers"])
    assert headers[b"content-length"] == str(len(content)).encode()
    assert (headers[b"content-type"], headers[b"link"]) == (b"application/json", b"<x>")
    assert [one["more_body"] for one in bodies] == [True] * (len(bodies) - 1) + [False]
    assert len(bodies) == max(1, -(-count // AT_ONCE))


async def test_between_its_pieces_the_loop_does_all_else_that_waits() -> None:
    rounds = 0
    made_in: list[int] = []

    async def other_work() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    def functions() -> Iterator[dict[str, Any]]:
        for number in range(10 * AT_ONCE):
            made_in.append(rounds)
            yield {"name": str(number)}

    other = asyncio.create_task(other_work())
    page = await Page.of(functions(), "", {})
    before = rounds
    pieces = await sent(page)
    other.cancel()
    assert max(made_in.count(one) for one in made_in) == AT_ONCE
    assert rounds - before >= len(pieces) - 1


async def test_a_long_page_arrives_whole_compressed_or_not(api: Any) -> None:
    names = [f"f{number:03}" for number in range(3 * AT_ONCE)]
    for name in names:
        await api.create(name, env={"A": name})
    for encoding in ("gzip", "identity"):
        answer = await api.http.get("functions?limit=1000", headers={"accept-encoding": encoding})
        assert answer.headers.get("content-encoding", "identity") == encoding
        page = models.Functions.model_validate_json(answer.content)
        assert [one.name for one in page.functions] == names
        assert [one.settings.env for one in page.functions] == [{"A": name} for name in names]
        assert "status" not in answer.json()["functions"][0]
