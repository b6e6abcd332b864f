"""Who may do what over REST, who is asked, and what the audit log says."""

import asyncio
from pathlib import Path
from typing import Any

import jwt
from sanfran_api.access.passwords import hash_password
from sanfran_api.access.privileges import Privilege

from api.tests.access.conftest import PASSWORD, audited, create, password
from api.tests.conftest import HELLO, Api, RunApi


async def test_privileges_and_patterns_decide_over_rest(api: Api) -> None:
    assert (await create(api, "hello", "vik")).status_code == 201
    made = await create(api, "shop-one", "ada", env={"KEY": "hidden"})
    assert made.status_code == 201
    assert made.json()["created_by"] == "ada"
    refused = await create(api, "other", "ada")
    assert refused.status_code == 403
    assert refused.json()["error"]["message"] == "'ada' lacks functions:create on 'other'"
    expected = {
        # method, path: statuses of ada, bob, eve
        ("GET", "functions/hello"): (403, 200, 403),
        ("GET", "functions/shop-one"): (200, 200, 403),
        ("GET", "functions/missing"): (403, 404, 403),
        ("GET", "functions/shop-one/logs"): (503, 403, 403),
        ("DELETE", "functions/hello"): (403, 403, 403),
        ("PUT", "functions/hello"): (403, 403, 403),
        ("GET", ""): (200, 200, 200),
        ("GET", "functions"): (200, 200, 403),
        ("GET", "pool"): (503, 503, 403),
    }
    for (method, path), statuses in expected.items():
        for user, status in zip(("ada", "bob", "eve"), statuses, strict=True):
            answer = await api.http.request(method, path, headers=password(user))
            assert answer.status_code == status, (method, path, user)


async def names(api: Api, user: str, limit: int = 100) -> list[str]:
    found: list[str] = []
    after = ""
    while True:
        params = {"limit": str(limit), "after": after}
        page = (await api.http.get("functions", params=params, headers=password(user))).json()
        found += [one["name"] for one in page["functions"]]
        after = page["next_after"]
        if not after:
            return found


async def test_a_list_shows_what_its_reader_may_see_over_all_pages(api: Api) -> None:
    for name in ("aa", "shop-a", "shop-b", "shop-z", "zz"):
        assert (await create(api, name, "vik")).status_code == 201
    for limit in (1, 2, 100):
        assert await names(api, "ada", limit) == ["shop-a", "shop-b", "shop-z"]
        assert await names(api, "vik", limit) == ["aa", "shop-a", "shop-b", "shop-z", "zz"]


async def test_env_is_hidden_from_who_lacks_settings_view(api: Api) -> None:
    await create(api, "shop-one", "ada", env={"KEY": "hidden"}, secrets={"TOKEN": "t"}, timeout=7)
    for path, user, hidden in (
        ("functions/shop-one", "bob", True),
        ("functions", "bob", True),
        ("functions/shop-one", "ada", False),
    ):
        answer = await api.http.get(path, headers=password(user))
        assert ("hidden" in answer.text.replace('"hidden":', "")) is not hidden
        shown = answer.json()
        shown = shown["functions"][0] if path == "functions" else shown
        assert shown["settings"]["env"] == ({} if hidden else {"KEY": "hidden"})
        assert shown["settings"]["secrets"] == ([] if hidden else ["TOKEN"])
        assert shown["hidden"] == (["env", "secrets"] if hidden else [])
        assert shown["settings"]["timeout"] == 7


async def test_code_and_settings_are_changed_by_different_privileges(
    run_api: RunApi, settings: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "access").write_text(
        "groups:\n  shop: [{privileges: [functions:update]}]\n"
        "  looker: [{privileges: [settings:update]}]\n"
    )
    async with run_api(**settings) as api:
        await create(api, "hello", "vik")

        async def update(user: str, *, code: bool, timeout: bool) -> int:
            files: dict[str, Any] = {"file": ("hello.js", HELLO + b"//")} if code else {}
            if timeout:
                files["settings"] = (None, '{"timeout": 9}')
            answer = await api.http.put("functions/hello", files=files, headers=password(user))
            return answer.status_code

        assert await update("ada", code=True, timeout=False) == 200
        assert await update("ada", code=True, timeout=True) == 403
        assert await update("ada", code=False, timeout=True) == 403
        assert await update("bob", code=True, timeout=False) == 403
        assert await update("bob", code=False, timeout=True) == 200
        assert await update("eve", code=False, timeout=True) == 403


async def test_who_asks_can_see_who_they_are(api: Api) -> None:
    me = (await api.http.get("me", headers=password("bob"))).json()
    assert me == {"user": "bob", "groups": ["looker"], "privileges": ["functions:list"]}
    me = (await api.http.get("me", headers=password("vik"))).json()
    assert sorted(me["privileges"]) == sorted(Privilege)


async def test_wrong_passwords_are_limited_for_their_user_and_nobody_else(api: Api) -> None:
    statuses = []
    for _ in range(12):
        answer = await api.http.get("me", headers=password("bob", "wrong password"))
        statuses.append(answer.status_code)
    assert statuses == [401] * 10 + [429] * 2
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert f"wait {answer.headers['retry-after']} s, then try again" in answer.text
    assert (await api.http.get("me", headers=password("bob"))).status_code == 429
    assert (await api.http.get("me", headers=password("vik"))).status_code == 200


async def test_a_hash_that_is_computed_does_not_hold_up_others(api: Api) -> None:
    assert (await api.http.get("me", headers=password("vik"))).status_code == 200
    wrong = [
        asyncio.create_task(api.http.get("me", headers=password(f"user-{i}"))) for i in range(30)
    ]
    await asyncio.sleep(0)
    assert (await api.http.get("me", headers=password("vik"))).status_code == 200
    assert any(not one.done() for one in wrong), "others had to wait until all was checked"
    await asyncio.gather(*wrong)


async def test_two_authorization_headers_are_no_credentials(api: Api) -> None:
    given = [("authorization", password("bob")["authorization"])] * 2
    assert (await api.http.get("me", headers=given)).status_code == 401


async def test_users_and_rules_are_read_again_while_it_runs(api: Api, tmp_path: Path) -> None:
    assert (await api.http.get("functions", headers=password("bob"))).status_code == 200
    (tmp_path / "access").write_text("groups: {shop: [}")  # half written: the former rules hold
    (tmp_path / "users").write_text(f"eve:{hash_password('another one')}:admin\n")
    async with asyncio.timeout(20):
        while (await api.http.get("me", headers=password("bob"))).status_code != 401:
            pass
    assert (await api.http.get("functions", headers=password("eve", "another one"))).is_success
    assert (await api.http.get("me", headers=password("eve"))).status_code == 401


async def test_the_audit_log_says_who_changed_what_and_who_was_refused(
    api: Api, tmp_path: Path
) -> None:
    await create(api, "shop-one", "ada", env={"KEY": "hidden-value"})
    await create(api, "other", "ada")
    await api.http.get("functions/hello", headers=password("ada"))
    await api.http.get("me", headers=password("ada", "wrong-password"))
    await api.http.delete("functions/missing", headers=password("vik"))
    await api.http.delete("functions/hello")
    told = audited(tmp_path)
    assert [
        (one["user"], one["operation"], one.get("function"), one["result"]) for one in told
    ] == [
        ("ada", "createFunction", "shop-one", "done"),
        ("ada", "createFunction", "other", "refused"),
        ("ada", "getFunction", "hello", "refused"),
        ("", "getCaller", None, "refused"),
        ("vik", "deleteFunction", "missing", "failed"),
        ("", "deleteFunction", "hello", "refused"),
    ]
    assert told[0]["changed"] == ["code", "settings.env.KEY"]
    assert {one["from"] for one in told} == {"127.0.0.1"}
    assert {one["via"] for one in told} == {"rest"}
    text = (tmp_path / "audit").read_text()
    assert "hidden-value" not in text
    assert "wrong-password" not in text
    assert PASSWORD not in text


async def test_when_the_audit_log_has_no_room_nothing_can_be_changed(
    run_api: RunApi, settings: dict[str, Any]
) -> None:
    async with run_api(**{**settings, "audit_file": "/dev/full"}) as api:
        assert (await create(api, "hello", "vik")).status_code == 201
        refused = await create(api, "hello2", "vik")
        assert refused.status_code == 507
        assert refused.json()["error"]["code"] == "audit_full"
        assert (await api.http.get("functions", headers=password("vik"))).status_code == 200


async def test_passwords_and_tokens_may_count_together(
    run_api: RunApi, settings: dict[str, Any], tmp_path: Path
) -> None:
    key = "0123456789abcdef0123456789abcdef"
    (tmp_path / "secret").write_text(key)
    (tmp_path / "secret").chmod(0o400)
    tokens = {
        "auth": "basic,jwt",
        "jwt_secret_file": str(tmp_path / "secret"),
        "jwt_issuer": "me",
        "jwt_audience": "sanfran",
    }
    told = {
        "sub": "carl",
        "iss": "me",
        "aud": "sanfran",
        "exp": 4_000_000_000,
        "groups": ["looker"],
    }
    token = jwt.encode(told, key, "HS256")
    async with run_api(**{**settings, **tokens}) as api:
        right = {"authorization": f"Bearer {token}"}
        me = await api.http.get("me", headers=right)
        assert me.json() == {"user": "carl", "groups": ["looker"], "privileges": ["functions:list"]}
        assert (await api.http.get("me", headers=password("ada"))).status_code == 200
        for _ in range(11):
            wrong = await api.http.get("me", headers={"authorization": f"Bearer {token}x"})
        assert wrong.status_code == 429
        assert (await api.http.get("me", headers=right)).status_code == 200
        refused = await api.http.get("me")
        assert refused.headers.get_list("www-authenticate") == [
            'Basic realm="sanfran", charset="UTF-8"',
            'Bearer realm="sanfran"',
        ]


async def test_behind_a_proxy_the_address_is_the_one_that_it_tells(
    run_api: RunApi, settings: dict[str, Any], tmp_path: Path
) -> None:
    async with run_api(**settings, trust_forwarded=True) as api:
        headers = {**password("eve"), "x-forwarded-for": "1.1.1.1, 10.9.8.7"}
        await api.http.get("functions", headers=headers)
    assert audited(tmp_path)[0]["from"] == "10.9.8.7"
