"""The gRPC contract: the same rules as REST, with gRPC's statuses."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpclib import GRPCError, Status
from sanfran_common.rpc.client import RpcClient
from sanfran_proto.google.protobuf import FieldMask
from sanfran_proto.sanfran import v1 as pb

CODE = b"module.exports = () => {}"


def upload(
    name: str, code: bytes | None = CODE, settings: pb.FunctionSettings | None = None
) -> list[pb.Upload]:
    file_name = "a.js" if code is not None else ""
    header = pb.UploadHeader(name=name, file_name=file_name, settings=settings)
    content = code or b""
    starts = range(0, len(content), 50_000)
    chunks = [pb.Upload(chunk=content[at : at + 50_000]) for at in starts]
    return [pb.Upload(header=header), *chunks]


async def status_of(call: Any) -> tuple[Status, str]:
    with pytest.raises(GRPCError) as caught:
        await call
    return caught.value.status, caught.value.message or ""


async def test_a_function_goes_through_its_life(api: Any) -> None:
    made = await api.stub.create_function(upload("a", settings=pb.FunctionSettings(timeout_ms=5)))
    assert (made.name, made.version, made.entry) == ("a", 1, "a.js")
    assert made.settings == pb.FunctionSettings(timeout_ms=5, concurrency=100, memory_mb=512)
    assert await api.stub.get_function(pb.GetFunctionRequest(name="a")) == made
    bundle = await api.bundle(made.digest)
    assert hashlib.sha256(bundle).hexdigest() == made.digest
    assert len(bundle) == made.bundle_bytes

    changed = await api.stub.update_function(upload("a", b"x" * 300_000))
    assert (changed.version, changed.settings) == (2, made.settings)
    only = await api.stub.update_function(
        upload("a", None, pb.FunctionSettings(env={"A": "b"}, idle_timeout_ms=1500))
    )
    assert (only.version, only.digest) == (3, changed.digest)
    assert only.settings == pb.FunctionSettings(
        env={"A": "b"}, timeout_ms=5, concurrency=100, idle_timeout_ms=1500, memory_mb=512
    )

    listed = await api.stub.list_functions(pb.ListFunctionsRequest())
    assert listed.functions == [only]
    await api.stub.delete_function(pb.DeleteFunctionRequest(name="a"))
    gone = api.stub.get_function(pb.GetFunctionRequest(name="a"))
    assert (await status_of(gone))[0] is Status.NOT_FOUND
    # Pods may still be fetching what was deleted a moment ago.
    assert await api.bundle(changed.digest)


async def test_pages_follow_one_another(api: Any) -> None:
    for name in "abcde":
        await api.create(name)
    first = await api.stub.list_functions(pb.ListFunctionsRequest(limit=3))
    assert ([one.name for one in first.functions], first.next_after) == (["a", "b", "c"], "c")
    last = await api.stub.list_functions(pb.ListFunctionsRequest(limit=3, after="c"))
    assert ([one.name for one in last.functions], last.next_after) == (["d", "e"], "")


async def test_errors_have_the_statuses_of_the_contract(api: Any) -> None:
    await api.create("taken")
    create, update = api.stub.create_function, api.stub.update_function
    expected = [
        (create(upload("taken")), Status.ALREADY_EXISTS, "taken"),
        (create(upload("Bad")), Status.INVALID_ARGUMENT, "name: 'Bad'"),
        (create(upload("a", None)), Status.INVALID_ARGUMENT, "file: missing"),
        (
            create(upload("a", settings=pb.FunctionSettings(timeout_ms=2**32 - 1))),
            Status.INVALID_ARGUMENT,
            "settings.timeout_ms: 4294967.295 is not accepted",
        ),
        (
            create(upload("a", settings=pb.FunctionSettings(env={"1": ""}))),
            Status.INVALID_ARGUMENT,
            "settings.env: '1' is no variable name",
        ),
        (create([pb.Upload(chunk=b"x")]), Status.INVALID_ARGUMENT, "must be `header`"),
        (create([*upload("a"), *upload("a")]), Status.INVALID_ARGUMENT, "must be a `chunk`"),
        (update(upload("none")), Status.NOT_FOUND, "'none'"),
        (update(upload("taken", None)), Status.INVALID_ARGUMENT, "nothing to change"),
        (
            api.stub.delete_function(pb.DeleteFunctionRequest(name="none")),
            Status.NOT_FOUND,
            "'none'",
        ),
        (api.bundle("00" * 32), Status.NOT_FOUND, "no bundle"),
        (api.bundle("00"), Status.NOT_FOUND, "no bundle"),
        (api.bundle("zz"), Status.INVALID_ARGUMENT, "digest: not hexadecimal"),
    ]
    for call, status, says in expected:
        found, message = await status_of(call)
        assert (found, says in message) == (status, True), message
    listed = await api.stub.list_functions(pb.ListFunctionsRequest())
    assert [one.name for one in listed.functions] == ["taken"]


async def test_limits_hold(run_api: Any) -> None:
    async with run_api(max_upload_bytes=100_000, max_uploads=1, upload_idle_timeout=0.5) as api:
        found, message = await status_of(api.stub.create_function(upload("a", b"x" * 100_001)))
        assert (found, message) == (Status.INVALID_ARGUMENT, "file: larger than 100000 bytes")

        began = asyncio.Event()

        async def stalling() -> AsyncIterator[pb.Upload]:
            header, chunk = upload("slow")
            yield header
            yield chunk  # asked for when the header is sent
            began.set()
            await asyncio.sleep(1.5)

        slow = asyncio.create_task(api.stub.create_function(stalling()))
        await began.wait()
        await api.stub.list_functions(pb.ListFunctionsRequest())  # sent after it, so it has come
        found, message = await status_of(api.stub.create_function(upload("b")))
        assert (found, message) == (
            Status.UNAVAILABLE,
            "1 uploads are under way; try again in a moment",
        )
        assert (await status_of(slow))[0] is Status.DEADLINE_EXCEEDED
        await api.stub.create_function(upload("b"))
        listed = await api.stub.list_functions(pb.ListFunctionsRequest())
        assert [one.name for one in listed.functions] == ["b"]


async def test_calls_without_the_secret_are_refused(run_api: Any) -> None:
    async with run_api(rpc_secret="s3cret") as api:
        await api.stub.create_function(upload("a"))
        async with RpcClient(api.life.addresses["rpc"]) as stranger:
            call = pb.ApiStub(stranger.channel).get_function(pb.GetFunctionRequest(name="a"))
            assert (await status_of(call))[0] is Status.UNAUTHENTICATED


async def test_large_bundles_stream_in_pieces(api: Any) -> None:
    code = random.Random(1).randbytes(3_000_000)  # which does not get smaller
    made = await api.stub.create_function(upload("a", code))
    request = pb.FetchBundleRequest(digest=made.digest)
    sizes = [len(chunk.data) async for chunk in api.stub.fetch_bundle(request)]
    assert abs(sum(sizes) - made.bundle_bytes) < 5000
    assert await api.bundle(made.digest)
    assert max(sizes) <= 262_144


async def test_code_is_kept_and_sent_compressed(api: Any) -> None:
    code = b"// the same again and again\n" * 20_000
    made = await api.stub.create_function(upload("a", code))
    request = pb.FetchBundleRequest(digest=made.digest)
    sent = b"".join([chunk.data async for chunk in api.stub.fetch_bundle(request)])
    assert sent.startswith(b"\x28\xb5\x2f\xfd")
    assert len(sent) < made.bundle_bytes / 100
    tar = await api.bundle(made.digest)
    assert len(tar) == made.bundle_bytes
    assert hashlib.sha256(tar).hexdigest() == made.digest


def update(mask: tuple[str, ...] = (), /, **settings: Any) -> list[pb.Upload]:
    """Of the settings of the function `a`."""
    header = pb.UploadHeader(
        name="a",
        settings=pb.FunctionSettings(**settings),
        settings_mask=FieldMask(paths=list(mask)) if mask else None,
    )
    return [pb.Upload(header=header)]


async def test_an_update_keeps_the_settings_that_it_does_not_give(api: Any) -> None:
    await api.create("a", env={"A": "1"}, timeout=5, memory=256, labels={"team": "x"})
    made = await api.stub.update_function(update(timeout_ms=7000, env={"B": "2"}))
    assert made.settings == pb.FunctionSettings(
        env={"B": "2"}, timeout_ms=7000, concurrency=100, memory_mb=256, labels={"team": "x"}
    )
    assert (await api.stub.update_function(update())).settings == made.settings


async def test_a_mask_says_what_an_update_replaces_zeros_too(api: Any) -> None:
    await api.create("a", env={"A": "1"}, timeout=5, memory=256, secrets={"S": "1"})
    mask = ("env", "timeout_ms", "secrets")
    made = await api.stub.update_function(update(mask, memory_mb=999, secrets={"T": "2"}))
    assert made.settings == pb.FunctionSettings(
        timeout_ms=60_000, concurrency=100, memory_mb=256, secrets={"S": "", "T": ""}
    )
    # What the mask leaves out stays, whatever `settings` says.
    made = await api.stub.update_function(update(("memory_mb",), env={"X": "1"}, secrets={"U": ""}))
    assert (made.settings.env, made.settings.memory_mb) == ({}, 512)
    made = await api.stub.update_function(update(("*",), env={"X": "1"}))
    assert made.settings == pb.FunctionSettings(
        env={"X": "1"},
        timeout_ms=60_000,
        concurrency=100,
        memory_mb=512,
        secrets={"S": "", "T": ""},
    )


async def test_a_mask_alone_brings_back_defaults(api: Any) -> None:
    await api.create("a", env={"A": "1"}, invoke="private")
    header = pb.UploadHeader(name="a", settings_mask=FieldMask(paths=["env", "invoke"]))
    made = await api.stub.update_function([pb.Upload(header=header)])
    assert (made.settings.env, made.settings.invoke) == ({}, pb.Invoke.PUBLIC)


async def test_a_mask_of_unknown_fields_is_refused_by_name(api: Any) -> None:
    await api.create("a")
    for wrong in ("timeout", "env.A", "settings.env", ""):
        call = api.stub.update_function(update((wrong,), timeout_ms=5))
        status, message = await status_of(call)
        assert status is Status.INVALID_ARGUMENT
        assert f"settings_mask: {wrong!r}" in message
        assert "env, secrets, timeout_ms" in message
    status, message = await status_of(api.stub.update_function(update(memory_mb=1)))
    assert (status, "settings.memory_mb: 1 is not" in message) == (Status.INVALID_ARGUMENT, True)
