"""Entity tags, links to the next page, and answers that are compressed."""

import gzip
from typing import Any

import pytest
from sanfran_api.rest.conditions import is_known


async def test_a_function_that_has_not_changed_is_not_sent_again(api: Any) -> None:
    made = await api.create("f")
    assert made.headers["etag"] == '"1"'
    got = await api.http.get("functions/f")
    assert got.headers["etag"] == '"1"'
    same = await api.http.get("functions/f", headers={"if-none-match": got.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == '"1"'
    updated = await api.update("f", settings={"timeout": 5})
    assert updated.headers["etag"] == '"2"'
    changed = await api.http.get("functions/f", headers={"if-none-match": '"1"'})
    assert changed.status_code == 200
    assert changed.json()["version"] == 2


async def test_what_get_named_is_what_changes_ask_for(api: Any) -> None:
    await api.create("f")
    tag = (await api.http.get("functions/f")).headers["etag"]
    await api.update("f", settings={"timeout": 5})
    late = {"if-match": tag}
    form = {"settings": (None, "{}")}
    for answer in (
        await api.http.put("functions/f", files=form, headers=late),
        await api.http.delete("functions/f", headers=late),
    ):
        assert answer.status_code == 412
        assert answer.json()["error"]["code"] == "version_changed"
    tag = (await api.http.get("functions/f")).headers["etag"]
    assert (await api.http.delete("functions/f", headers={"if-match": tag})).status_code == 204


async def test_a_tag_of_a_function_that_was_made_anew_is_another(api: Any) -> None:
    await api.create("f")
    tag = (await api.http.get("functions/f")).headers["etag"]
    await api.http.delete("functions/f")
    gone = await api.http.get("functions/f", headers={"if-none-match": tag})
    assert gone.status_code == 404
    await api.create("f")
    assert (await api.http.get("functions/f", headers={"if-none-match": tag})).status_code == 200


@pytest.mark.parametrize(
    ("given", "known"),
    [
        (None, False),
        ('"3"', True),
        ('W/"3"', True),
        ("*", True),
        ('"1", W/"3" ,"5"', True),
        ('"33"', False),
        ("3", False),
        ('"3', False),
        ("", False),
        ('"1" "\x00', False),
    ],
)
def test_tags_are_compared_as_the_rfc_has_it(given: str | None, known: bool) -> None:
    assert is_known(3, given) is known


async def test_pages_are_linked_and_keep_what_was_asked(api: Any) -> None:
    for name in ("a", "b", "c"):
        await api.create(name)
    url = "functions?limit=2&status=true&after="
    first = await api.http.get(url)
    assert first.headers["link"] == ('</api/v1/functions?limit=2&status=true&after=b>; rel="next"')
    last = await api.http.get(first.url.join(first.links["next"]["url"]))
    assert [one["name"] for one in last.json()["functions"]] == ["c"]
    assert "link" not in last.headers


async def test_answers_are_compressed_for_those_who_take_it(api: Any) -> None:
    await api.create("f", env={"A": "a" * 4000})
    plain = await api.http.get("functions/f", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    async with api.http.stream("GET", "functions/f", headers={"accept-encoding": "gzip"}) as zipped:
        assert zipped.headers["content-encoding"] == "gzip"
        assert zipped.headers["etag"] == plain.headers["etag"]
        raw = b"".join([part async for part in zipped.aiter_raw()])
    assert len(raw) < len(plain.content) / 4
    assert gzip.decompress(raw) == plain.content
    small = await api.http.get("functions/f/../..", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in small.headers
