"""What the tests of REST upload, and what they read out of answers."""

from typing import Any

import httpx

CODE = b"module.exports = (req, res) => res.send('hi')"


def error_of(answer: httpx.Response, status: int) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, str] = answer.json()["error"]
    assert set(error) - {"field"} == {"code", "message", "request_id"}
    assert error["request_id"] == answer.headers["x-request-id"]
    return error


async def names(api: Any) -> list[str]:
    return [one["name"] for one in (await api.http.get("functions")).json()["functions"]]
