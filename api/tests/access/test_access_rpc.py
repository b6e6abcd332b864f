"""Who may do what over gRPC: people, services and routers."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from grpclib import GRPCError, Status
from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.const import Cardinality
from sanfran_api.access import calls
from sanfran_api.access.operations import FOR_USERS
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.codec import CODEC
from sanfran_common.rpc.roles import Role
from sanfran_common.rpc.tls import Tls
from sanfran_proto.sanfran import v1 as pb

from api.tests.access.conftest import SECRET, audited, create, password, status_of
from api.tests.conftest import HELLO, Api, RunApi
from tests.certificates import Authority


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


async def test_a_refusal_names_the_privilege_and_the_function(api: Api, tmp_path: Path) -> None:
    async with RpcClient(api.life.addresses["rpc"]) as client:
        stub = pb.ApiStub(client.channel)
        eve, bob = password("eve"), password("bob")
        get = stub.get_function(pb.GetFunctionRequest(name="hello"), metadata=eve)
        delete = stub.delete_function(pb.DeleteFunctionRequest(name="hello"), metadata=bob)
        refused = {
            "'eve' lacks functions:list on 'hello'": get,
            "'bob' lacks functions:delete on 'hello'": delete,
            "'bob' lacks functions:create on 'hello'": stub.create_function(
                upload("hello"), metadata=bob
            ),
            "'bob' lacks functions:update on 'hello'": stub.update_function(
                upload("hello"), metadata=bob
            ),
            "'eve' lacks functions:list": stub.list_functions(
                pb.ListFunctionsRequest(), metadata=eve
            ),
        }
        for message, call in refused.items():
            with pytest.raises(GRPCError) as caught:
                await call
            assert (caught.value.status, caught.value.message) == (
                Status.PERMISSION_DENIED,
                message,
            )
    functions = [one.get("function") for one in audited(tmp_path)]
    assert functions == ["hello"] * 4 + [None]


async def test_who_may_nothing_and_names_nothing_is_refused_all_the_same(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "NAME_SECONDS", 0.1)

    async def call(client: RpcClient) -> None:
        async with client.channel.request(
            "/sanfran.v1.Api/CreateFunction",
            Cardinality.STREAM_UNARY,
            pb.Upload,
            pb.FunctionVersion,
            metadata=password("eve"),
        ) as stream:
            await stream.send_request()
            await stream.recv_initial_metadata()

    async with RpcClient(api.life.addresses["rpc"]) as client, asyncio.timeout(20):
        with pytest.raises(GRPCError, match="'eve' lacks functions:create"):
            await call(client)


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


async def test_who_may_not_see_settings_does_not_empty_them_by_sending_back_what_they_saw(
    api: Api,
) -> None:
    await create(api, "shop-one", "vik", env={"KEY": "hidden"}, secrets={"TOKEN": "1"})
    async with RpcClient(api.life.addresses["rpc"]) as client:
        stub = pb.ApiStub(client.channel)
        seen = await stub.get_function(
            pb.GetFunctionRequest(name="shop-one"), metadata=password("tim")
        )
        assert seen.settings is not None
        assert (seen.settings.env, seen.settings.secrets) == ({}, {})
        header = pb.UploadHeader(name="shop-one", settings=replace(seen.settings, timeout_ms=7000))
        await stub.update_function([pb.Upload(header=header)], metadata=password("tim"))
    now = await api.stub.resolve_function(pb.GetFunctionRequest(name="shop-one"))
    assert now.settings is not None
    assert now.settings.timeout_ms == 7000
    assert (now.settings.env, now.settings.secrets) == ({"KEY": "hidden"}, {"TOKEN": "1"})
