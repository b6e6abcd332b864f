"""Who may do what, on a real service: each route of REST and each method of gRPC."""

import asyncio
import base64
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from grpclib import GRPCError, Status
from grpclib.client import Channel
from grpclib.config import Configuration
from sanfran_api.access.operations import FOR_USERS, REST, RPC, Needs, Operation
from sanfran_api.access.passwords import hash_password
from sanfran_api.access.privileges import Privilege
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.codec import CODEC
from sanfran_common.rpc.roles import Role
from sanfran_common.rpc.tls import Tls
from sanfran_proto.sanfran import v1 as pb

from tests.certificates import Authority

from .conftest import HELLO, Api, RunApi

PASSWORD = "correct horse"
SECRET = "the-secret-of-our-own-services"
ACCESS = """
groups:
  shop:
    - privileges: ["functions:*", settings:view, settings:update]
      functions: ["shop-*"]
  looker:
    - privileges: [functions:list]
"""


def password(user: str, text: str = PASSWORD) -> dict[str, str]:
    given = base64.b64encode(f"{user}:{text}".encode()).decode()
    return {"authorization": f"Basic {given}"}


@pytest.fixture(scope="module")
def users() -> str:
    hashed = hash_password(PASSWORD)
    people = {"vik": "admin", "ada": "shop", "bob": "looker", "eve": ""}
    return "".join(f"{name}:{hashed}:{groups}\n" for name, groups in people.items())


@pytest.fixture
def settings(tmp_path: Path, users: str) -> dict[str, Any]:
    (tmp_path / "users").write_text(users)
    (tmp_path / "users").chmod(0o600)
    (tmp_path / "access").write_text(ACCESS)
    return {
        "auth": "basic",
        "users_file": str(tmp_path / "users"),
        "access_file": str(tmp_path / "access"),
        "audit_file": str(tmp_path / "audit"),
        "rpc_secret": SECRET,
    }


@pytest.fixture
async def api(run_api: RunApi, settings: dict[str, Any]) -> AsyncIterator[Api]:
    async with run_api(**settings) as running:
        yield running


def audited(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]


async def create(api: Api, name: str, user: str, **given: Any) -> httpx.Response:
    return await api.http.post(
        "functions",
        data={"name": name, "settings": json.dumps(given)},
        files={"file": ("hello.js", HELLO)},
        headers=password(user),
    )


async def test_without_credentials_everything_but_the_docs_is_401_with_a_challenge(
    api: Api,
) -> None:
    spec = (await api.http.get("openapi.json")).json()
    for path, operations in spec["paths"].items():
        for method in operations:
            url = path.replace("{name}", "hello").removeprefix("/api/v1").lstrip("/")
            answer = await api.http.request(method, re.sub(r"\{.*?\}", "1", url))
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == 'Basic realm="sanfran", charset="UTF-8"'
            assert answer.json()["error"]["code"] == "unauthenticated"
            assert "a user and password (Basic) works" in answer.json()["error"]["message"]
    assert (await api.http.get("docs")).status_code == 200


async def test_every_route_is_in_the_table_and_nothing_else(api: Api) -> None:
    spec = (await api.http.get("openapi.json")).json()
    named = {op["operationId"] for path in spec["paths"].values() for op in path.values()}
    assert named == {name for name, one in REST.items() if one.needs is not Needs.NOBODY}


def test_every_method_is_in_the_table_and_nothing_else() -> None:
    methods = {path.rpartition("/")[2] for path in pb.ApiBase().__mapping__()}
    assert methods == set(RPC)


def test_the_documentation_shows_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "auth.md").read_text()
    for table in (REST, RPC):
        for name, operation in table.items():
            row = next((one for one in page.splitlines() if one.startswith(f"| `{name}`")), None)
            assert row is not None, name
            assert needed(operation) in row, row


def needed(operation: Operation) -> str:
    match operation.needs:
        case Needs.NOBODY:
            return "nothing"
        case Needs.LOGIN:
            return "to be known"
        case Needs.EVERYTHING:
            return "everything"
        case Needs.SERVICE:
            return "one of our own services"
        case _:
            return " or ".join(f"`{one}`" for one in operation.privileges)


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


# gRPC


async def status_of(call: Any) -> Status:
    try:
        await call
    except GRPCError as error:
        return error.status
    return Status.OK


async def test_over_grpc_people_say_who_they_are_and_services_have_the_secret(
    api: Api, tmp_path: Path
) -> None:
    await create(api, "shop-one", "vik", env={"KEY": "hidden"})
    await create(api, "hello", "vik")
    async with RpcClient(api.life.addresses["rpc"]) as client:
        stub = pb.ApiStub(client.channel)
        calls: Mapping[str, Any] = {
            "GetFunction": lambda who: stub.get_function(
                pb.GetFunctionRequest(name="hello"), metadata=who
            ),
            "ListFunctions": lambda who: stub.list_functions(
                pb.ListFunctionsRequest(), metadata=who
            ),
            "DeleteFunction": lambda who: stub.delete_function(
                pb.DeleteFunctionRequest(name="missing"), metadata=who
            ),
            "CreateFunction": lambda who: stub.create_function(upload("other"), metadata=who),
            "UpdateFunction": lambda who: stub.update_function(upload("hello"), metadata=who),
        }
        assert set(calls) == FOR_USERS
        for name, call in calls.items():
            assert await status_of(call(None)) is Status.UNAUTHENTICATED, name
            wrong = password("vik", "wrong password")
            assert await status_of(call(wrong)) is Status.UNAUTHENTICATED, name
            assert await status_of(call(password("eve"))) is Status.PERMISSION_DENIED, name
        for name in ("GetFunction", "CreateFunction", "UpdateFunction", "DeleteFunction"):
            assert await status_of(calls[name](password("ada"))) is Status.PERMISSION_DENIED, name
        assert await status_of(calls["DeleteFunction"](password("vik"))) is Status.NOT_FOUND
        listed = await calls["ListFunctions"](password("ada"))
        assert [one.name for one in listed.functions] == ["shop-one"]
        listed = await calls["ListFunctions"](password("bob"))
        assert [one.settings.env for one in listed.functions] == [{}, {}]

        for metadata in (None, password("vik")):
            fetch = stub.fetch_bundle(pb.FetchBundleRequest(digest="00"), metadata=metadata)
            assert await status_of(anext(fetch)) is Status.UNAUTHENTICATED
    seen = await api.stub.get_function(pb.GetFunctionRequest(name="shop-one"))
    assert seen.settings is not None
    assert seen.settings.env == {"KEY": "hidden"}
    by_rpc = [one for one in audited(tmp_path) if one["via"] == "rpc"]
    assert ("vik", "DeleteFunction", "missing", "failed") in {
        (one["user"], one["operation"], one.get("function"), one["result"]) for one in by_rpc
    }


async def upload(name: str) -> AsyncIterator[pb.Upload]:
    yield pb.Upload(header=pb.UploadHeader(name=name, file_name="hello.js"))
    yield pb.Upload(chunk=HELLO)


async def test_where_nobody_is_asked_the_secret_counts_as_before(run_api: RunApi) -> None:
    async with run_api(rpc_secret=SECRET) as api:
        assert (await api.create("hello")).status_code == 201
        assert (await api.http.get("me")).json()["user"] == ""
        async with RpcClient(api.life.addresses["rpc"]) as client:
            call = pb.ApiStub(client.channel).get_function(pb.GetFunctionRequest(name="hello"))
            assert await status_of(call) is Status.UNAUTHENTICATED


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


async def test_over_tls_people_need_no_certificate_and_services_need_the_right_one(
    run_api: RunApi, settings: dict[str, Any], tmp_path: Path
) -> None:
    authority = Authority()
    settings["tls_dir"] = authority.folder(tmp_path / "tls", "api")
    settings["rpc_secret"] = ""
    get = pb.GetFunctionRequest(name="hello")
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(run_api(**settings))
        await create(api, "hello", "vik")
        address = api.life.addresses["rpc"]
        stubs = {}
        for role in (Role.CONTROLLER, Role.ROUTER):
            folder = authority.folder(tmp_path / role, role)
            tls = await stack.enter_async_context(Tls(folder, role))
            client = RpcClient(address, tls=tls.to(Role.API))
            stubs[role] = pb.ApiStub((await stack.enter_async_context(client)).channel)
        bare = ssl.create_default_context(cafile=str(tmp_path / "tls" / "ca.crt"))
        bare.set_alpn_protocols(["h2"])
        host, port = address.split(":")
        name = Configuration(ssl_target_name_override="api.sanfran.internal")
        channel = Channel(host, int(port), ssl=bare, config=name, codec=CODEC)
        stack.callback(channel.close)
        people = pb.ApiStub(channel)

        assert await status_of(people.get_function(get)) is Status.UNAUTHENTICATED
        assert await status_of(people.get_function(get, metadata=password("vik"))) is Status.OK
        eve = people.get_function(get, metadata=password("eve"))
        assert await status_of(eve) is Status.PERMISSION_DENIED
        watch = people.fetch_bundle(pb.FetchBundleRequest(digest="00"), metadata=password("vik"))
        assert await status_of(anext(watch)) is Status.UNAUTHENTICATED
        assert await status_of(stubs[Role.CONTROLLER].get_function(get)) is Status.OK
        assert await status_of(stubs[Role.ROUTER].get_function(get)) is Status.UNAUTHENTICATED
        asks = pb.AuthorizeRequest(authorization=password("vik")["authorization"], function="hello")
        assert (await stubs[Role.ROUTER].authorize(asks)).user == "vik"
        refused = stubs[Role.CONTROLLER].authorize(asks)
        assert await status_of(refused) is Status.PERMISSION_DENIED


async def test_routers_are_told_who_may_invoke(api: Api, tmp_path: Path) -> None:
    async def ask(header: str, function: str = "shop-one") -> pb.AuthorizeResponse:
        asked = pb.AuthorizeRequest(authorization=header, function=function, address="10.1.1.1")
        return await api.stub.authorize(asked)

    may = await ask(password("ada")["authorization"])
    assert (may.status, may.user, may.ttl_ms) == (200, "ada", 10_000)
    other = await ask(password("ada")["authorization"], "hello")
    assert (other.status, other.code, other.ttl_ms) == (403, "forbidden", 2000)
    assert other.message == "'ada' lacks functions:invoke on 'hello'"
    nobody = await ask("")
    assert (nobody.status, nobody.challenges) == (401, ['Basic realm="sanfran", charset="UTF-8"'])
    for _ in range(11):
        wrong = await ask(password("ada", "wrong password")["authorization"])
    assert wrong.status == 429
    assert wrong.retry_after > 0
    refusals = [one for one in audited(tmp_path) if one["via"] == "router"]
    assert refusals[0]["operation"] == "invoke"
    assert refusals[0]["from"] == "10.1.1.1"


async def test_where_nobody_is_asked_nobody_may_invoke_a_private_function(run_api: RunApi) -> None:
    async with run_api() as api:
        told = await api.stub.authorize(pb.AuthorizeRequest(function="hello"))
        assert told.status == 403
        assert "--auth" in told.message
