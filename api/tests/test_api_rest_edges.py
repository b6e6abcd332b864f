"""REST where clients are odd, hostile, or two at once."""

import asyncio
import io
import tarfile
from typing import Any

import httpx
import pytest

CODE = b"module.exports = (req, res) => res.send('hi')"
HEAD = (
    b"POST /api/v1/functions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: multipart/form-data; boundary=edge\r\n\r\n"
)


def message_of(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    message: str = answer.json()["error"]["message"]
    return message


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (r'{"\ud800": 1}', r"settings.\ud800: unknown"),
        (r'{"env": {"KEY": "\ud800"}}', "the value of 'KEY' is not UTF-8; text works"),
        ('{"idle_timeout": 0.0004}', "settings.idle_timeout: 0.0004 is not accepted; 0 (the"),
    ],
)
async def test_settings_that_could_not_be_kept_as_they_are_are_refused(
    api: Any, settings: str, says: str
) -> None:
    answer = await api.http.post(
        "functions", data={"name": "odd", "settings": settings}, files={"file": ("a.js", CODE)}
    )
    assert says in message_of(answer, 400)
    assert (await api.http.get("functions/odd")).status_code == 404


async def test_a_package_json_with_half_a_character_is_refused_as_the_client_s_mistake(
    api: Any,
) -> None:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as archive:
        content = rb'{"main": "\ud800"}'
        member = tarfile.TarInfo("package.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    files = {"file": ("a.tar", into.getvalue())}
    answer = await api.http.post("functions", data={"name": "odd"}, files=files)
    assert r"looked for \ud800" in message_of(answer, 400)


@pytest.mark.parametrize("origin", ["http://[", "http://", "null", "x", "http://evil.example"])
async def test_an_origin_of_any_shape_that_is_not_ours_is_refused(api: Any, origin: str) -> None:
    answer = await api.http.get("functions", headers={"origin": origin})
    assert repr(origin) in message_of(answer, 403)


async def test_what_follows_a_form_is_not_read_without_end(
    run_api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanfran_api.rest.forms.FORM_OVERHEAD", 20_000)
    monkeypatch.setattr("sanfran_api.rest.forms.LINGER_SECONDS", 0.05)
    form = b'--edge\r\nContent-Disposition: form-data; name="name"\r\n\r\na\r\n--edge--\r\n'

    async def flood(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"%x\r\n%b\r\n" % (len(form), form))
        while True:
            writer.write(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
            await writer.drain()

    async with run_api(max_upload_bytes=50_000, max_uploads=1) as api:
        host, _, port = api.life.addresses["http"].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        flooding = asyncio.create_task(flood(writer))
        try:
            async with asyncio.timeout(10):
                assert b" 413 " in await reader.readline()
            assert (await api.create("next")).status_code == 201, "its place is free again"
        finally:
            flooding.cancel()
            await asyncio.wait([flooding])
            writer.close()


async def test_of_two_changes_made_for_one_version_the_second_is_refused(api: Any) -> None:
    await api.create("shop", CODE, env={"A": "1"})

    async def change(name: str, if_match: str) -> httpx.Response:
        parts = {"settings": (None, f'{{"env": {{"{name}": "1"}}}}')}
        headers = {"if-match": if_match}
        answer: httpx.Response = await api.http.put("functions/shop", files=parts, headers=headers)
        return answer

    answers = await asyncio.gather(change("B", '"1"'), change("C", "1"))
    assert sorted(one.status_code for one in answers) == [200, 412]
    refused = next(one for one in answers if one.status_code == 412)
    assert refused.json()["error"]["code"] == "version_changed"
    assert "shop is at version 2, and this change was made for version 1" in refused.text
    assert (await api.http.get("functions/shop")).json()["version"] == 2
    assert (await change("D", "*")).json()["version"] == 3
    assert "'soon' is no version; try" in message_of(await change("E", "soon"), 400)
