"""Backups of a service that runs: consistent, whole or refused, and restored at once."""

import asyncio
import base64
import hashlib
import json
import lzma
import os
import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpclib import GRPCError
from sanfran_api.errors import BadRequest, Busy, NotFound, StoreFull
from sanfran_api.store import backup as format_of_backups
from sanfran_api.store.backup import END, Unsealer
from sanfran_api.store.backups import Backups
from sanfran_api.store.rebuilding import rebuild
from sanfran_proto.sanfran import v1 as pb

from api.tests.stores import (
    MIB,
    bundle,
    content_of,
    file_size_limit,
    function,
    made,
    opened,
    opened_up,
    pieces,
    same,
)

LARGE = os.urandom(3 * MIB)


async def backed_up(api: Any) -> bytes:
    answer = await api.http.get("backup")
    assert answer.status_code == 200
    return bytes(answer.content)


async def restored(api: Any, content: bytes) -> httpx.Response:
    answer: httpx.Response = await api.http.post("restore", content=content)
    return answer


async def state(api: Any) -> dict[str, tuple[int, str]]:
    functions = (await api.http.get("functions?limit=1000")).json()["functions"]
    return {one["name"]: (one["version"], one["digest"]) for one in functions}


async def code(api: Any, name: str) -> bytes:
    digest = (await api.http.get(f"functions/{name}")).json()["digest"]
    content: bytes = await api.bundle(digest)
    assert hashlib.sha256(content).hexdigest() == digest
    return content


async def test_a_restore_brings_back_what_was_and_gives_new_versions_to_what_differs(
    api: Any,
) -> None:
    await api.create("kept", b"kept")
    await api.create("changed", b"first", timeout=1, secrets={"KEY": "first"})
    await api.create("deleted", LARGE)
    before = await state(api)
    content = await backed_up(api)
    await api.update("changed", b"second", {"timeout": 2, "secrets": {"KEY": "second"}})
    await api.http.delete("functions/deleted")
    await api.create("new", b"new")
    revision = (await watch_until_synced(api)).revision
    done = await restored(api, content)
    assert done.json() == {"functions": 3, "applied": True}
    after = await state(api)
    assert after["kept"] == before["kept"]
    assert after["changed"] == (3, before["changed"][1]), "no number is given twice"
    assert after["deleted"] == (2, before["deleted"][1])
    assert "new" not in after
    assert LARGE[:1000] in await code(api, "deleted")
    told = await api.stub.resolve_function(pb.GetFunctionRequest(name="changed"))
    assert (told.settings.secrets, told.settings.timeout_ms) == ({"KEY": "first"}, 1000)
    versions = (await api.http.get("functions/changed/versions")).json()["versions"]
    assert [(one["version"], one["note"]) for one in versions] == [
        (3, "restored from version 1"),
        (1, ""),
    ]
    # Whoever follows starts over, and does not take the new store for a continuation.
    synced = await watch_until_synced(api, revision)
    assert synced.synced is not None
    assert synced.synced.complete
    assert synced.revision > revision
    assert (await api.create("new", b"again")).json()["version"] == 2


async def watch_until_synced(api: Any, revision: int = 0) -> pb.FunctionEvent:
    async def start() -> Any:
        begin = pb.WatchStart(watcher="test", from_revision=revision)
        yield pb.WatchFunctionsRequest(start=begin)
        await asyncio.sleep(30)

    async for event in api.stub.watch_functions(start()):
        if event.synced is not None:
            return event
    raise AssertionError("the watch ended")


async def test_a_watcher_that_is_connected_is_sent_away_to_ask_for_everything(api: Any) -> None:
    await api.create("a", b"1")
    content = await backed_up(api)
    ended = asyncio.Event()

    async def follow() -> None:
        async def start() -> Any:
            yield pb.WatchFunctionsRequest(start=pb.WatchStart(watcher="test"))
            await ended.wait()

        async for _ in api.stub.watch_functions(start()):
            synced.set()

    synced = asyncio.Event()
    following = asyncio.create_task(follow())
    await synced.wait()
    assert (await restored(api, content)).status_code == 200
    with pytest.raises(GRPCError, match="behind all history"):
        await following


async def test_whatever_is_wrong_with_a_backup_it_is_refused_and_nothing_changes(
    api: Any, tmp_path: Path
) -> None:
    await api.create("a", b"1")
    content = await backed_up(api)
    await api.create("b", b"2")
    before = await state(api)
    middle = len(content) // 2
    flipped = bytearray(content)
    flipped[middle] ^= 1
    body = content[: -len(END) - 32]
    head, _, file = body.partition(b"\n")
    newer = json.dumps({**json.loads(head), "schema": 99}).encode() + b"\n" + file

    def sealed(content: bytes) -> bytes:
        return content + END + hashlib.sha256(content).digest()

    # Sealed well, but inside it is not what it says it is.
    hollow = head + b"\n" + bytes(len(file))
    garbled = bytearray(file)
    for at in range(0, len(garbled), 4096):
        garbled[at + 16 : at + 200] = os.urandom(184)
    for wrong, says in (
        (b"", "ends in the middle"),
        (b"{}\n" + file, "this is no backup"),
        (os.urandom(100_000), "this is no backup"),
        (content[:-1], "ends in the middle"),
        (content[:middle], "ends in the middle"),
        (content + b"x", "ends in the middle"),
        (bytes(flipped), "was altered"),
        (sealed(newer), "its schema is 99, this service reads up to"),
        (sealed(hollow), "no whole store"),
        (sealed(head + b"\n"), "no whole store"),
        (sealed(head + b"\n" + bytes(garbled)), "no whole store"),
    ):
        answer = await restored(api, bytes(wrong))
        assert answer.status_code == 400, says
        assert says in answer.json()["error"]["message"]
        assert await state(api) == before
    assert list((tmp_path / "data/tmp").glob("restore-*")) == []
    assert (await restored(api, content)).status_code == 200


async def test_a_bundle_that_was_altered_in_the_file_is_found(api: Any) -> None:
    code = os.urandom(5000)  # which zstd leaves as it is
    await api.create("a", code)
    content = await backed_up(api)
    body = content[: -len(END) - 32].replace(code[2000:2100], bytes(100))
    assert len(body) == len(content) - len(END) - 32
    assert code[2000:2100] not in body
    answer = await restored(api, body + END + hashlib.sha256(body).digest())
    assert "no whole store" in answer.json()["error"]["message"]


async def test_a_version_that_stands_under_the_name_of_another_is_found(api: Any) -> None:
    await api.create("mine-a")
    content = await backed_up(api)
    said = b"\x0a\x06mine-a"  # its first field
    assert said in content
    body = content[: -len(END) - 32].replace(said, b"\x0a\x06../../")
    answer = await restored(api, body + END + hashlib.sha256(body).digest())
    assert "says that it is another one" in answer.json()["error"]["message"]


async def test_secrets_stay_sealed_and_want_their_key(run_api: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_bytes(base64.b64encode(bytes(32)))
    async with run_api(secrets_key_file=str(keys)) as api:
        await api.create("a", secrets={"KEY": "canary-4c1d"})
        content = await backed_up(api)
        assert b"canary-4c1d" not in content
    other = tmp_path / "other"
    async with run_api(data=other) as api:
        await api.create("b")
        answer = await restored(api, content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "key_refused")
        assert "--secrets-key-file" in answer.json()["error"]["message"]
        assert list(await state(api)) == ["b"]
    async with run_api(data=other, secrets_key_file=str(keys)) as api:
        assert (await restored(api, content)).status_code == 200
        told = await api.stub.resolve_function(pb.GetFunctionRequest(name="a"))
        assert told.settings.secrets == {"KEY": "canary-4c1d"}
    async with run_api(data=other, secrets_key_file=str(keys)) as api:
        assert list(await state(api)) == ["a"]


async def test_a_backup_is_of_one_moment_while_writes_go_on_and_two_go_at_once(api: Any) -> None:
    await api.create("first")
    for number in range(20):
        await api.create(f"large-{number}", os.urandom(200_000))
    stop = asyncio.Event()
    written = 0

    async def write() -> None:
        nonlocal written
        while not stop.is_set():
            # Each pair is written in this order: a moment without the first has not the second.
            await api.create(f"a-{written}", b"%d" % written)
            await api.create(f"b-{written}", b"%d" % written)
            written += 1

    writing = asyncio.create_task(write())
    try:
        backups = await asyncio.gather(backed_up(api), backed_up(api))
    finally:
        stop.set()
        await writing
    assert written > 1
    for content in backups:
        assert (await restored(api, content)).status_code == 200
        there = set(await state(api))
        assert {name.replace("b-", "a-") for name in there if name.startswith("b-")} <= there
        assert "first" in there


async def test_who_leaves_half_way_leaves_nothing_behind(api: Any, tmp_path: Path) -> None:
    await api.create("a", os.urandom(8 * MIB))
    for _ in range(6):  # more than may be under way at once
        async with api.http.stream("GET", "backup") as answer:
            assert answer.status_code == 200
            await anext(answer.aiter_raw())
    content = await backed_up_in_the_end(api)

    async def cut_off() -> Any:
        yield content[: len(content) // 2]
        raise RuntimeError("the client is gone")

    with pytest.raises(RuntimeError, match="gone"):
        await api.http.post("restore", content=cut_off())
    while list((tmp_path / "data/tmp").glob("restore-*")):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert (await restored(api, content)).status_code == 200


async def backed_up_in_the_end(api: Any) -> bytes:
    while True:
        answer = await api.http.get("backup")
        if answer.status_code == 200:
            return bytes(answer.content)
        assert answer.status_code == 503
        await asyncio.sleep(0.05)


async def test_a_backup_that_is_larger_than_a_store_may_be_is_refused_before_it_fills_the_disk(
    run_api: Any, tmp_path: Path
) -> None:
    async with run_api() as api:
        await api.create("large", LARGE)
        content = await backed_up(api)

    async def of_no_stated_length() -> Any:
        for at in range(0, len(content), 100_000):
            yield content[at : at + 100_000]

    async with run_api(data=tmp_path / "small", max_store_bytes=2 * MIB) as api:
        for body in (content, of_no_stated_length()):
            error = (await restored(api, body)).json()["error"]
            assert (error["code"], error["field"]) == ("too_large", "backup")
            assert "larger than 2097152 bytes" in error["message"]
            assert "--max-store-bytes" in error["message"]
        assert await state(api) == {}
        assert list((tmp_path / "small/tmp").iterdir()) == []


async def test_a_backup_that_the_disk_has_no_room_for_is_refused_before_it_is_sent(
    run_api: Any,
) -> None:
    async with run_api(max_store_bytes=1 << 62) as api:
        host, port = api.life.addresses["http"].removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /api/v1/restore HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n"
            b"expect: 100-continue\r\n\r\n" % (1 << 60)
        )
        async with asyncio.timeout(3):  # less than it would wait for the body
            assert b" 507 " in await reader.readline()
        writer.close()


# The store alone


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_a_backup_comes_apart_however_it_comes_in(size: int) -> None:
    sealer = format_of_backups.Sealer()
    content = sealer.add(format_of_backups.head()) + sealer.add(b"content" * 100) + sealer.end()
    unsealer = Unsealer()
    parts = [unsealer.feed(content[at : at + size]) for at in range(0, len(content), size)]
    unsealer.end()
    assert b"".join(parts) == b"content" * 100


async def test_uploads_that_a_restore_overtakes_are_refused_whole(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        backups = Backups(store, tmp_path / "data", 1024 * MIB)
        content = await made(backups)
        large = [os.urandom(6 * MIB) for _ in range(4)]
        uploads = [
            asyncio.create_task(store.create(function(f"f{n}"), bundle(one)))
            for n, one in enumerate(large)
        ]
        await asyncio.sleep(0.01)
        await backups.restore(pieces(content))
        for number, result in enumerate(await asyncio.gather(*uploads, return_exceptions=True)):
            if isinstance(result, BaseException):
                assert isinstance(result, Busy), result
                await store.create(function(f"f{number}"), bundle(large[number]))
        for number, one in enumerate(large):
            digest = hashlib.sha256(one).hexdigest()
            try:
                assert store.get(f"f{number}").digest == digest
            except NotFound:
                continue  # it was complete, and what a restore replaces
            assert content_of(store, digest) == one


async def test_two_restores_do_not_meet(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        backups = Backups(store, tmp_path / "data", 1024 * MIB)
        await store.create(function("a"), bundle(b"1"))
        content = await made(backups)
        results = await asyncio.gather(
            *(backups.restore(pieces(content)) for _ in range(3)), return_exceptions=True
        )
        assert sum(isinstance(one, Busy) for one in results) == 2
        await store.update("a", same, bundle(b"2"))
        assert (await backups.restore(pieces(content)))[0].functions == 1
        assert store.get("a").version == 3


@pytest.mark.parametrize("stage", ["taking it in", "making a store of it", "new versions"])
async def test_wherever_in_a_restore_the_disk_gets_full_nothing_changes(
    tmp_path: Path, stage: str
) -> None:
    async with opened(tmp_path) as store:
        backups = Backups(store, tmp_path / "data", 1024 * MIB)
        for number in range(400):
            await store.create(function(f"f{number:03}"), bundle(b"%d" % number * 500))
        content = await made(backups)
        for number in range(400):  # so that all of them get new versions
            await store.update(f"f{number:03}", same, bundle(b"later"))
        (tmp_path / "other").mkdir()
        file = opened_up(content, tmp_path / "file")
        rebuild(file, tmp_path / "other", 1024 * MIB)
        whole = (tmp_path / "other/store/data.mdb").stat().st_size
        limit = {"taking it in": len(content) // 2, "making a store of it": whole // 2}
        with ExitStack() as until:

            async def coming() -> Any:
                if stage != "taking it in":
                    async for piece in pieces(content):
                        yield piece
                until.enter_context(file_size_limit(limit.get(stage, whole + 8192)))
                if stage == "taking it in":
                    async for piece in pieces(content):
                        yield piece

            with pytest.raises(StoreFull) as caught:
                await backups.restore(coming())
        assert caught.value.http_status == 507
        assert {one.version for one, _ in store.page("", 1000).functions} == {2}
        assert list(store.scratch.iterdir()) == []
        await backups.restore(pieces(content))
        assert {one.version for one, _ in store.page("", 1000).functions} == {3}
        assert content_of(store, store.get("f399").digest) == b"399" * 500


async def test_a_backup_of_the_first_release_s_schema_is_restored(tmp_path: Path) -> None:
    written = Path(__file__).parent / "stores/schema-1.tar.xz"
    with lzma.open(written) as packed, tarfile.open(fileobj=packed) as tar:
        inside = tar.extractfile("store/data.mdb")
        assert inside is not None
        file = inside.read()
    body = b'{"format": "sanfran-backup", "schema": 1}\n' + file
    content = body + END + hashlib.sha256(body).digest()
    async with opened(tmp_path) as store:
        backups = Backups(store, tmp_path / "data", 1024 * MIB)
        judged, _ = await backups.restore(pieces(content))
        assert judged.functions == 121
        assert content_of(store, store.get("f007").digest) == b"code 7"


async def test_a_backup_that_is_not_whole_is_not_made(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        backups = Backups(store, tmp_path / "nowhere", 1024 * MIB)
        with pytest.raises(Exception, match="could not be copied"):
            await made(backups)
        with pytest.raises(BadRequest, match="ends in the middle"):
            await backups.restore(pieces(format_of_backups.head()))
