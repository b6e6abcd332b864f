"""REST over a real socket: functions, their pages, and what answers and errors look like."""

import asyncio
import json
from typing import Any

import pytest
from sanfran_api.rest import forms, models, openapi

from api.tests.answers import CODE, error_of, names


async def test_a_function_goes_through_its_life(api: Any) -> None:
    made = await api.create("hello", CODE, timeout=5, env={"A": "b"})
    assert made.status_code == 201
    assert made.headers["location"] == "/api/v1/functions/hello"
    function = made.json()
    assert function.pop("applied") is True
    assert function["settings"] == {
        "env": {"A": "b"},
        "timeout": 5.0,
        "concurrency": 100,
        "min_scale": 0,
        "max_scale": 0,
        "idle_timeout": 0.0,
        "memory": 512,
        "labels": {},
        "body_limit": 0,
        "invoke": "public",
        "secrets": [],
    }
    assert (function["created_by"], function["note"]) == ("", "")
    assert (function["version"], function["entry"]) == (1, "hello.js")
    assert function["url"] == "http://127.0.0.1:8080/fn/hello"
    shown = (await api.http.get("functions/hello")).json()
    assert shown == function
    assert "status" not in shown, "no controller answers"
    assert (await api.http.get("functions")).json() == {"functions": [function], "next_after": ""}

    changed = (await api.update("hello", b"2", {"timeout": 7, "env": {"C": "d"}})).json()
    assert (changed["version"], changed["settings"]["timeout"]) == (2, 7)
    assert changed["settings"]["env"] == {"C": "d"}
    assert changed["digest"] != function["digest"]
    kept = (await api.update("hello", None, {"timeout": None})).json()
    assert (kept["version"], kept["digest"]) == (3, changed["digest"])
    assert (kept["settings"]["timeout"], kept["settings"]["env"]) == (60, {"C": "d"})

    gone = await api.http.delete("functions/hello")
    assert (gone.status_code, gone.content, gone.headers["sanfran-applied"]) == (204, b"", "true")
    error_of(await api.http.get("functions/hello"), 404)
    assert (await api.create("hello", CODE)).json()["version"] == 4


async def test_everything_wrong_is_told_and_nothing_is_stored(api: Any) -> None:
    async def post(status: int, says: str, field: str = "", **parts: Any) -> None:
        given = {"name": (None, "a"), "file": ("a.js", CODE), **parts}
        files = [(key, part) for key, part in given.items() if part is not None]
        error = error_of(await api.http.post("functions", files=files), status)
        assert says in error["message"]
        assert error.get("field", "") == field

    await post(400, "name: 'Bad' is no function name", "name", name=(None, "Bad"))
    await post(400, "name: is missing", "name", name=None)
    await post(400, "file: missing", "file", file=None)
    await post(400, "'a.py' is neither a module", "file", file=("a.py", b""))
    await post(400, "not a readable zip", "file", file=("a.zip", b"PK"))
    await post(400, "file: sent as text", "file", file=(None, "x"))
    await post(400, "settings: not JSON", "settings", settings=(None, "{"))
    twice = (None, '{"env": {"A": "1", "B": "2", "A": "3"}}')
    await post(400, "settings: not JSON (A is there twice)", "settings", settings=twice)
    await post(400, "settings: not a JSON object", "settings", settings=(None, "[]"))
    await post(400, "settings.x: unknown", "settings.x", settings=(None, '{"x": 1}'))
    await post(400, "settings: not UTF-8", "settings", settings=(None, b"\xff"))
    await post(400, "'extra': unknown field", extra=(None, "1"))
    await post(
        413, "settings: larger than", "settings", settings=(None, " " * (forms.MAX_TEXT_BYTES + 1))
    )
    twice = [("name", (None, "a")), ("name", (None, "b")), ("file", ("a.js", CODE))]
    assert "sent twice" in error_of(await api.http.post("functions", files=twice), 400)["message"]
    two = [("name", (None, "a")), ("file", ("a.js", CODE)), ("file", ("b.js", CODE))]
    assert "sent twice" in error_of(await api.http.post("functions", files=two), 400)["message"]
    assert await names(api) == []


async def test_a_query_that_nothing_reads_is_refused_before_anything_is_done(api: Any) -> None:
    await api.create("back", timeout=1)
    await api.update("back", settings={"timeout": 2})
    error = error_of(await api.http.post("functions/back/rollback?versio=1"), 400)
    assert (error["field"], error["message"]) == ("versio", "versio: unknown; there is version")
    assert (await api.http.get("functions/back")).json()["version"] == 2
    error = error_of(await api.http.get("functions?labels=a%3db"), 400)
    assert error["message"] == "labels: unknown; there is limit, after, status, label"
    error = error_of(await api.http.delete("functions/back?force=true"), 400)
    assert "nothing is asked for here" in error["message"]
    assert await names(api) == ["back"]


async def test_errors_of_routing_look_the_same(api: Any) -> None:
    nothing = error_of(await api.http.get("nothing"), 404)
    assert nothing["code"] == "not_found"
    assert "/api/v1/docs shows what there is" in nothing["message"]
    wrong = await api.http.patch("functions")
    assert error_of(wrong, 405)["code"] == "method_not_allowed"
    assert wrong.headers["allow"] == "GET, POST"
    wrong = await api.http.post("functions/none")
    assert error_of(wrong, 405)["message"].endswith("DELETE, GET, PUT work")
    error_of(await api.http.post("docs"), 405)
    for query in ("limit=0", "limit=1001", "limit=x"):
        error = error_of(await api.http.get(f"functions?{query}"), 400)
        assert error["field"] == "limit"
    for path in ("functions/none", "functions/No%2fne", "functions/%00", "functions/none/logs"):
        error_of(await api.http.get(path), 404)
    for call in (api.http.delete("functions/none"), api.update("none", CODE)):
        error_of(await call, 404)
    await api.create("a", CODE)
    assert error_of(await api.create("a", CODE), 409)["code"] == "already_exists"
    empty = await api.http.put("functions/a", files=[("settings", (None, "{}"))])
    assert empty.json()["version"] == 2, "settings were given, though none"
    nothing = await api.http.put(
        "functions/a",
        content=b"--b--\r\n",
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    assert "nothing to change" in error_of(nothing, 400)["message"]
    # What a browser sends for a file field that was left empty.
    empty_field = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--b--'
    )
    nothing = await api.http.put(
        "functions/a",
        content=empty_field,
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    assert "nothing to change" in error_of(nothing, 400)["message"]


async def test_a_failure_in_here_is_a_json_500(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    await api.create("a", CODE)
    monkeypatch.setattr(models, "fields_of", fail)
    error = error_of(await api.http.get("functions/a"), 500)
    assert error["code"] == "internal"
    assert "Zero" not in error["message"]


async def test_two_creates_of_one_name_at_once_make_one_function(api: Any) -> None:
    answers = await asyncio.gather(*(api.create("a", b"%d" % n) for n in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    made = next(answer.json() for answer in answers if answer.status_code == 201)
    assert (await api.http.get("functions/a")).json()["digest"] == made["digest"]


async def test_two_updates_at_once_make_two_versions_and_keep_both_settings(api: Any) -> None:
    await api.create("a", CODE)
    answers = await asyncio.gather(
        api.update("a", None, {"timeout": 5}), api.update("a", None, {"concurrency": 7})
    )
    assert sorted(answer.json()["version"] for answer in answers) == [2, 3]
    settings = (await api.http.get("functions/a")).json()["settings"]
    assert (settings["timeout"], settings["concurrency"]) == (5, 7)


async def test_pages_follow_one_another(api: Any) -> None:
    for name in "abcde":
        await api.create(name)
    first = (await api.http.get("functions?limit=2")).json()
    assert ([one["name"] for one in first["functions"]], first["next_after"]) == (["a", "b"], "b")
    rest = (await api.http.get("functions?limit=200&after=b")).json()
    assert ([one["name"] for one in rest["functions"]], rest["next_after"]) == (["c", "d", "e"], "")


async def test_functions_are_found_by_label_page_by_page(
    api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanfran_api.functions.MAX_LOOKED_AT", 2)
    for number in range(5):
        await api.create(f"f{number}", labels={"odd": str(number % 2)})
    found: list[str] = []
    pages = 0
    after = ""
    while pages == 0 or after:
        query = {"label": ["odd=0", "odd"], "limit": 2, "after": after}
        page = (await api.http.get("functions", params=query)).json()
        found += [one["name"] for one in page["functions"]]
        after = page["next_after"]
        pages += 1
    assert (found, pages) == (["f0", "f2", "f4"], 3)
    error = error_of(await api.http.get("functions?label=a%20b"), 400)
    assert error["field"] == "label"


async def test_a_delete_for_another_version_is_refused(api: Any) -> None:
    await api.create("a", CODE)
    await api.update("a", b"2")
    for header in ('"1"', "9"):
        answer = await api.http.delete("functions/a", headers={"if-match": header})
        assert error_of(answer, 412)["code"] == "version_changed"
    error_of(await api.http.delete("functions/a", headers={"if-match": "x"}), 400)
    assert (await api.http.delete("functions/a", headers={"if-match": '"2"'})).status_code == 204


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"host": "evil.example"}, "forbidden_host"),
        ({"host": "127.0.0.1.evil.example:8081"}, "forbidden_host"),
        ({"host": "localhost.evil.example"}, "forbidden_host"),
        ({"host": ""}, "forbidden_host"),
        ({"host": "["}, "forbidden_host"),
        ({"origin": "https://evil.example"}, "forbidden_origin"),
        ({"origin": "null"}, "forbidden_origin"),
        ({"origin": "http://127.0.0.1:1"}, "forbidden_origin"),
        ({"origin": "chrome-extension://abc"}, "forbidden_origin"),
    ],
)
async def test_a_web_page_elsewhere_cannot_use_the_service(
    api: Any, headers: dict[str, str], code: str
) -> None:
    for call in (
        api.http.get("functions", headers=headers),
        api.http.post("functions", headers=headers, files={"file": ("a.js", CODE)}),
    ):
        assert error_of(await call, 403)["code"] == code


async def test_own_names_and_the_own_origin_may(run_api: Any) -> None:
    async with run_api(allowed_hosts="api.example, other") as api:
        at = api.life.addresses["http"]
        for host in (
            "localhost",
            "LOCALHOST:99",
            "[::1]:80",
            "10.0.0.1",
            "a.localhost",
            "API.example:1",
        ):
            answer = await api.http.get("functions", headers={"host": host})
            assert answer.status_code == 200, host
        own = {"origin": f"http://{at}"}
        assert (await api.http.get("functions", headers=own)).status_code == 200


async def test_a_request_id_is_kept_when_it_is_one(api: Any) -> None:
    kept = await api.http.get("functions", headers={"x-request-id": "abc-1"})
    assert kept.headers["x-request-id"] == "abc-1"
    for bad in ("x" * 129, "a b", "\u00e9".encode()):
        made = await api.http.get("functions", headers={"x-request-id": bad})
        assert len(made.headers["x-request-id"]) == 32


async def test_the_service_tells_about_itself(api: Any) -> None:
    for path in ("", "/"):
        shown = (await api.http.get(str(api.http.base_url).rstrip("/") + path)).json()
        assert shown["public_url"] == "http://127.0.0.1:8080"
        assert shown["limits"]["max_upload_bytes"] == 100 * 1024 * 1024


async def test_openapi_is_3_1_and_names_every_operation(api: Any) -> None:
    spec = (await api.http.get("openapi.json")).json()
    assert spec["openapi"].startswith("3.1")
    operations = {
        operation["operationId"]: operation
        for path in spec["paths"].values()
        for operation in path.values()
    }
    assert set(operations) == {
        "getService",
        "createFunction",
        "listFunctions",
        "getFunction",
        "updateFunction",
        "deleteFunction",
        "getLogs",
        "getPool",
        "getCaller",
        "listVersions",
        "rollbackFunction",
        "rotateSecrets",
        "backUp",
        "restore",
    }
    for operation in operations.values():
        errors = {status for status in operation["responses"] if status >= "400"}
        for status in errors - {"422"}:
            schema = operation["responses"][status]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Error"}
    assert "LogLine" in spec["components"]["schemas"]
    referenced = set(json.dumps(spec).split('"#/components/schemas/')[1:])
    used = {reference.partition('"')[0] for reference in referenced}
    assert used <= set(spec["components"]["schemas"])
    assert "HTTPValidationError" not in json.dumps(spec["paths"])


@pytest.mark.skipif(not openapi.STATIC.is_dir(), reason="Swagger UI's files were not built")
async def test_the_docs_need_no_internet(api: Any) -> None:
    page = (await api.http.get("docs")).text
    assert "http://" not in page
    assert "https://" not in page
    for name in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert name in page
        assert (await api.http.get(f"static/{name}")).status_code == 200
    error_of(await api.http.get("static/nothing.js"), 404)
