"""Who may make a dry run, and what the audit log says of it."""

from pathlib import Path
from typing import Any

from api.tests.access.conftest import audited, password
from api.tests.conftest import RunApi
from api.tests.test_api_dry_run import EMPTY, HELLO, form


async def test_it_asks_for_the_same_privileges_and_the_audit_log_has_only_refusals(
    run_api: RunApi, settings: dict[str, Any], tmp_path: Path
) -> None:
    async with run_api(**settings) as api:

        async def post(user: str, name: str) -> int:
            files = form(name, EMPTY, {"timeout": 5}, dry_run=True)
            answer = await api.http.post("functions", files=files, headers=password(user))
            return answer.status_code

        async def put(user: str, code: tuple[str, bytes] | None) -> int:
            files = form(None, code, {"timeout": 5}, dry_run=True)
            answer = await api.http.put("functions/shop-a", files=files, headers=password(user))
            return answer.status_code

        await api.http.post(
            "functions",
            files=form("shop-a", ("f.js", HELLO), {}, dry_run=False),
            headers=password("ada"),
        )
        assert [await post(user, "shop-b") for user in ("ada", "bob")] == [201, 403]
        assert await post("ada", "other") == 403
        assert [await put(user, None) for user in ("ada", "tim", "bob")] == [200, 200, 403]
        assert [await put(user, EMPTY) for user in ("ada", "tim", "bob")] == [200, 403, 403]
    assert [(one["user"], one["operation"], one["result"]) for one in audited(tmp_path)] == [
        ("ada", "createFunction", "done"),
        ("bob", "createFunction", "refused"),
        ("ada", "createFunction", "refused"),
        ("bob", "updateFunction", "refused"),
        ("tim", "updateFunction", "refused"),
        ("bob", "updateFunction", "refused"),
    ]
