"""Dry runs: judged like the real thing, and nothing comes of them."""

import json
from typing import Any

import pytest

from api.tests.conftest import HELLO, Api

EMPTY = ("unsent", b"")
Given = dict[str, Any] | None


def form(
    name: str | None, code: tuple[str, bytes] | None, settings: Given, *, dry_run: bool
) -> list[tuple[str, Any]]:
    parts: list[tuple[str, Any]] = [("file", code)] if code else []
    texts = {
        "name": name,
        "settings": None if settings is None else json.dumps(settings),
        "dry_run": "true" if dry_run else None,
    }
    return parts + [(key, (None, text)) for key, text in texts.items() if text is not None]


NEW: list[tuple[str, dict[str, Any]]] = [
    ("good", {"timeout": 5, "env": {"A": "b"}, "secrets": {"KEY": "value"}}),
    ("f", {"memory": 1}),
    ("f", {"secrets": {"KEY": "x" * 70_000}}),
    ("f", {"secrets": {"KEY": ""}}),
    ("f", {"no-such": 1}),
    ("Not_a_name", {}),
    ("", {}),
    ("taken", {}),
]


async def test_a_new_function_is_judged_as_if_it_were_made(api: Api) -> None:
    await api.create("taken")
    for name, given in NEW:
        before = (await api.http.get("functions")).json()
        dry = await api.http.post("functions", files=form(name, EMPTY, given, dry_run=True))
        assert (await api.http.get("functions")).json() == before
        code = ("f.js", HELLO)
        real = await api.http.post("functions", files=form(name, code, given, dry_run=False))
        assert dry.status_code == real.status_code, real.text
        assert known(dry.json(), new_code=True) == known(real.json(), new_code=True)


@pytest.mark.parametrize("code", [None, ("f.js", HELLO + b"//")])
async def test_a_change_is_judged_as_if_it_were_made(
    api: Api, code: tuple[str, bytes] | None
) -> None:
    changes: list[tuple[Given, dict[str, str], bool]] = [
        ({"timeout": 7, "secrets": {"MORE": "m", "KEY": None}}, {}, False),
        ({"timeout": 5, "secrets": {"KEY": "value"}}, {}, True),
        ({"secrets": {"KEY": "another"}}, {}, True),
        ({"memory": 1}, {}, False),
        ({"secrets": {"MORE": "x" * 70_000}}, {}, False),
        ({"env": {"KEY": "in both"}}, {}, False),
        ({"timeout": 7}, {"if-match": '"1"'}, False),
        ({"timeout": 7}, {"if-match": '"2"'}, False),
        (None, {}, False),
    ]
    for number, (given, headers, unless_same) in enumerate(changes):
        url = f"functions/f{number}"
        await api.create(f"f{number}", timeout=5, secrets={"KEY": "value"})
        await api.update(f"f{number}", HELLO)
        before = (await api.http.get(f"{url}/versions")).json()
        how: Any = {"headers": headers, "params": {"unless_same": unless_same}}
        sent = form(None, code and EMPTY, given, dry_run=True)
        dry = await api.http.put(url, files=sent, **how)
        assert (await api.http.get(f"{url}/versions")).json() == before
        sent = form(None, code, given, dry_run=False) or [("source", (None, ""))]
        real = await api.http.put(url, files=sent, **how)
        assert dry.status_code == real.status_code, real.text
        assert known(dry.json(), new_code=bool(code)) == known(real.json(), new_code=bool(code))
    sent = form(None, code and EMPTY, {"timeout": 7}, dry_run=True)
    assert (await api.http.put("functions/missing", files=sent)).status_code == 404


def known(answer: dict[str, Any], *, new_code: bool) -> dict[str, Any]:
    """What a dry run can know of an answer."""
    if error := answer.get("error"):
        return {**error, "request_id": ""}
    of_code = ("digest", "bundle_bytes", "entry") if new_code else ()
    return {
        key: value
        for key, value in answer.items()
        if key not in ("created_at", "applied", *of_code)
    }


async def test_of_code_that_nobody_packed_nothing_is_known_and_nothing_is_applied(
    api: Api,
) -> None:
    made = (
        await api.http.post("functions", files=form("f", ("f.zip", b"no zip"), {}, dry_run=True))
    ).json()
    assert (made["digest"], made["bundle_bytes"], made["entry"]) == ("", 0, "")
    assert made["applied"] is False


async def test_a_dry_run_without_code_is_told_that_it_is_missing(api: Api) -> None:
    answer = await api.http.post("functions", files=form("f", None, {}, dry_run=True))
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "file"


async def test_whether_it_is_one_has_to_be_said_in_words_that_count(api: Api) -> None:
    wrong = {"dry_run": (None, "yes"), "name": (None, "f"), "file": ("f.js", HELLO)}
    answer = await api.http.post("functions", files=wrong)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == (
        "dry_run: 'yes' is not accepted; true and false work"
    )
    assert (await api.http.get("functions")).json()["functions"] == []
