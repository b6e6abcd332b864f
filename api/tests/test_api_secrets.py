"""Secrets: sealed in the store, shown to nobody, told to services."""

import asyncio
import base64
import json
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from grpclib import GRPCError, Status
from hypothesis import given
from hypothesis import strategies as st
from sanfran_api.errors import BadRequest, Busy
from sanfran_api.store.store import Store
from sanfran_api.store.vault import KeyRefused, Unreadable, Vault
from sanfran_proto.sanfran import v1 as pb

from api.tests.stores import bundle, function, opened

CANARY = "canary-4c1d0f9e"
OLD, NEW = bytes(range(32)), bytes(range(32, 64))


def told(version: pb.FunctionVersion) -> dict[str, str]:
    assert version.settings is not None
    return dict(version.settings.secrets)


async def resolved(api: Any, name: str) -> dict[str, str]:
    return told(await api.stub.resolve_function(pb.GetFunctionRequest(name=name)))


def keys(path: Path, *content: bytes) -> Path:
    path.write_bytes(b"\n".join(base64.b64encode(key) for key in content))
    return path


def in_memory(key: bytes) -> Vault:
    with tempfile.NamedTemporaryFile() as file:
        file.write(key)
        file.flush()
        return Vault(Path(file.name), own=False)


# The vault


@given(st.text(), st.binary(min_size=1))
def test_what_is_sealed_opens_in_its_place_only(value: str, place: bytes) -> None:
    vault = in_memory(OLD)
    sealed = vault.seal(place, value)
    assert vault.open(place, sealed) == value
    with pytest.raises(Unreadable):
        vault.open(place + b"\0", sealed)
    assert sealed != vault.seal(place, value), "a fresh nonce each time"


@given(st.integers(min_value=0), st.integers(1, 255))
def test_whatever_bit_is_altered_it_does_not_open(at: int, by: int) -> None:
    vault = in_memory(OLD)
    sealed = bytearray(vault.seal(b"place", "value"))
    sealed[at % len(sealed)] ^= by
    with pytest.raises(Unreadable):
        vault.open(b"place", bytes(sealed))
    with pytest.raises(Unreadable):
        vault.open(b"place", bytes(sealed[: at % len(sealed)]))


@pytest.mark.parametrize(
    "content",
    [
        OLD,
        base64.b64encode(OLD),
        base64.b64encode(OLD) + b"\r\n",
        base64.urlsafe_b64encode(OLD),
        OLD.hex().encode(),
        b"# a comment\n\n" + OLD.hex().upper().encode() + b"\n",
        base64.b64encode(OLD) + b"\n" + NEW.hex().encode() + b"\n",
    ],
)
def test_keys_are_read_in_every_form(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    assert Vault(path, own=False).open(b"a", in_memory(OLD).seal(b"a", "b")) == "b"


@pytest.mark.parametrize(
    "content",
    [b"", b"# nothing\n", OLD[:31], OLD + b"\n!", b"hunter2-" * 4 + b"\n!", b"z" * 64, b"=" * 44],
)
def test_what_is_no_key_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(KeyRefused) as caught:
        Vault(path, own=False)
    assert caught.value.message.startswith("--secrets-key-file: ")
    assert "openssl rand -base64 32" in caught.value.message
    assert "hunter2" not in caught.value.message


def test_a_file_of_keys_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match=r"--secrets-key-file: there is no .*/keys"):
        Vault(tmp_path / "keys", own=False)
    with pytest.raises(KeyRefused, match="--secrets-key-file"):
        Vault(tmp_path, own=False)


# The service


async def test_a_secret_goes_to_services_and_to_nobody_else(
    run_api: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answers: list[str] = []
    async with run_api(log_level="debug") as api:

        async def record(answer: Any) -> Any:
            await answer.aread()
            answers.append(f"{answer.headers} {answer.text}")
            return answer

        api.http.event_hooks["response"] = [record]
        made = await api.create("a", env={"A": "1"}, secrets={"KEY": CANARY})
        assert made.json()["settings"]["secrets"] == ["KEY"]
        for path in ("functions/a", "functions", "functions/a/versions", "openapi.json"):
            await api.http.get(path)
        await api.update("a", b"2", {"timeout": 5})
        await api.update("a", None, {"secrets": {"OTHER": CANARY + "2"}})
        # Refusals of all kinds repeat no value.
        for wrong in (CANARY, [CANARY], {"KEY": [CANARY]}, {"1": CANARY}, {"A": CANARY}):
            assert (await api.update("a", None, {"secrets": wrong})).status_code == 400
        await api.update("a", None, {"secrets": {"B": CANARY}, "env": {"B": CANARY[:6]}})
        await api.http.post("functions/a/rollback")
        shown = [await api.stub.get_function(pb.GetFunctionRequest(name="a"))]
        shown += (await api.stub.list_functions(pb.ListFunctionsRequest())).functions
        answers += map(repr, shown)
        assert told(shown[0]) == {"KEY": ""}
        assert await resolved(api, "a") == {"KEY": CANARY}
        assert (await api.http.post("secrets/rotate")).json()["rotated"] == 5
        assert await resolved(api, "a") == {"KEY": CANARY}
        events = api.stub.watch_functions(watching())
        first = await anext(aiter(events))
        assert first.put is not None
        assert told(first.put) == {"KEY": CANARY}
    captured = capfd.readouterr()
    said = "".join(answers) + captured.out + captured.err
    assert "KEY" in said
    assert CANARY not in said
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert len(files) >= 3
    for path in files:
        assert CANARY.encode() not in path.read_bytes()


async def watching() -> Any:
    yield pb.WatchFunctionsRequest(start=pb.WatchStart(watcher="test"))
    await asyncio.sleep(30)


async def test_secrets_change_one_by_one(api: Any) -> None:
    await api.create("a", secrets={"A": "1", "B": "2"})
    await api.update("a", None, {"env": {"X": "y"}})
    await api.update("a", b"new code")
    assert await resolved(api, "a") == {"A": "1", "B": "2"}
    await api.update("a", None, {"secrets": {"B": "3", "C": "4"}})
    assert await resolved(api, "a") == {"A": "1", "B": "3", "C": "4"}
    answer = await api.update("a", None, {"secrets": {"B": None, "D": None}})
    assert answer.json()["settings"]["secrets"] == ["A", "C"]
    assert await resolved(api, "a") == {"A": "1", "C": "4"}
    for settings, says in (
        ({"secrets": {"A": ""}}, "the value of 'A' is empty; null removes"),
        ({"env": {"A": "1"}}, "'A' is in env, too"),
        ({"secrets": {"X": "1"}}, "'X' is in env, too"),
        ({"secrets": {"SANFRAN_A": "1"}}, "reserved"),
        ({"secrets": {"A": "x" * 70_000}}, "65536 are allowed"),
        ({"secrets": ["A"]}, "an object of strings works"),
    ):
        error = (await api.update("a", None, settings)).json()["error"]
        assert error["field"] == "settings.secrets"
        assert says in error["message"]
    assert await resolved(api, "a") == {"A": "1", "C": "4"}
    await api.update("a", None, {"secrets": None})
    assert await resolved(api, "a") == {}


async def test_over_grpc_an_empty_secret_stays_and_one_is_removed_by_name(api: Any) -> None:
    async def sent(**header: Any) -> Any:
        yield pb.Upload(header=pb.UploadHeader(name="a", **header))

    settings = pb.FunctionSettings(secrets={"A": "1", "B": "2"})
    await api.stub.create_function(sent(file_name="a.js", settings=settings))
    settings = pb.FunctionSettings(secrets={"A": "", "C": "3"}, timeout_ms=5)
    made = await api.stub.update_function(sent(settings=settings))
    assert told(made) == {"A": "", "B": "", "C": ""}
    await api.stub.update_function(sent(remove_secrets=["A"]))
    assert await resolved(api, "a") == {"B": "2", "C": "3"}
    with pytest.raises(GRPCError) as caught:
        await api.stub.update_function(sent(settings=settings, of_version=1))
    assert caught.value.status is Status.FAILED_PRECONDITION
    settings = pb.FunctionSettings(secrets={"A": ""})
    with pytest.raises(GRPCError, match="empty"):
        await api.stub.create_function(sent(file_name="a.js", settings=settings))


async def test_a_rollback_brings_back_code_settings_and_secrets(api: Any) -> None:
    await api.create("a", b"1", timeout=1, secrets={"A": "1", "B": "1"})
    await api.update("a", b"2", {"timeout": 2, "secrets": {"A": "2", "B": None}})
    await api.update("a", b"3", {"secrets": {"A": "3"}})
    back = (await api.http.post("functions/a/rollback")).json()
    assert (back["version"], back["note"], back["settings"]["timeout"]) == (4, "rollback to 2", 2)
    assert await resolved(api, "a") == {"A": "2"}
    assert back["applied"] is True
    back = (await api.http.post("functions/a/rollback?version=1")).json()
    assert (back["version"], back["note"], back["settings"]["timeout"]) == (5, "rollback to 1", 1)
    assert await resolved(api, "a") == {"A": "1", "B": "1"}
    versions = (await api.http.get("functions/a/versions")).json()["versions"]
    assert [one["version"] for one in versions] == [5, 4, 3, 2, 1]
    assert versions[0]["digest"] == versions[4]["digest"]
    assert versions[0]["created_at"] >= versions[4]["created_at"]
    for query, status, says in (
        ("?version=5", 400, "is at version 5; give one before it"),
        ("?version=6", 404, "has no version 6"),
        ("?version=0", 400, "version"),
    ):
        answer = await api.http.post(f"functions/a/rollback{query}")
        assert (answer.status_code, says in answer.json()["error"]["message"]) == (status, True)
    answer = await api.http.post("functions/a/rollback", headers={"if-match": '"4"'})
    assert answer.json()["error"]["code"] == "version_changed"
    assert (await api.http.post("functions/b/rollback")).status_code == 404
    assert (await api.http.get("functions/b/versions")).status_code == 404
    await api.create("b")
    error = (await api.http.post("functions/b/rollback")).json()["error"]
    assert "b has no older version" in error["message"]


async def test_the_key_that_the_service_makes_is_its_owners_alone(
    run_api: Any, tmp_path: Path
) -> None:
    async with run_api() as api:
        await api.create("a", secrets={"A": "1"})
    path = tmp_path / "data/secrets.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with run_api() as api:
        assert await resolved(api, "a") == {"A": "1"}
    path.rename(tmp_path / "lost")
    with pytest.raises(KeyRefused, match="--secrets-key-file"):
        async with run_api():
            pass
    assert not path.exists(), "a new key would not help"
    async with run_api(secrets_key_file=str(tmp_path / "lost")) as api:
        assert await resolved(api, "a") == {"A": "1"}


async def test_keys_change_while_the_service_runs_and_the_old_one_can_go(
    run_api: Any, tmp_path: Path
) -> None:
    path = keys(tmp_path / "keys", OLD)
    async with run_api(secrets_key_file=str(path)) as api:
        for number in range(5):
            await api.create(f"f{number}", secrets={"A": str(number), "B": "b"})
        keys(path, NEW)
        answer = await api.http.post("secrets/rotate")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "key_refused")
        await api.create("g", secrets={"A": "g"})  # with the former keys
        keys(path, NEW, OLD)
        done = (await api.http.post("secrets/rotate")).json()
        assert done["rotated"] == 11
        assert (await api.http.post("secrets/rotate")).json() == {**done, "rotated": 0}
        keys(path, NEW)
        assert (await api.http.post("secrets/rotate")).json() == {**done, "rotated": 0}
    async with run_api(secrets_key_file=str(path)) as api:
        assert await resolved(api, "f3") == {"A": "3", "B": "b"}
        assert await resolved(api, "g") == {"A": "g"}
    with pytest.raises(KeyRefused, match=f"does not have the key {done['key']}"):
        async with run_api(secrets_key_file=str(keys(path, OLD))):
            pass


async def test_a_rotation_that_is_interrupted_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanfran_api.store.store.ROTATE_AT_ONCE", 2)
    async with opened(tmp_path) as store:
        for number in range(7):
            await store.create(with_secret(f"f{number}", "1"), bundle(b"1"))
        rotation = asyncio.create_task(store.rotate())
        while len(await keys_in_use(store)) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        with pytest.raises(Busy, match="under way"):
            await store.rotate()
        rotation.cancel()
        await asyncio.wait({rotation})
        # A write meanwhile is sealed with the new key, whatever the rotation has come to.
        await store.update("f6", lambda now: now, None)
    async with opened(tmp_path) as store:
        done = await store.rotate()
        assert 0 < done.rotated <= 8
        assert await keys_in_use(store) == [done.key]
        assert told(store.get("f6", reveal=True)) == {"A": "1"}
        assert all(told(store.get(f"f{n}", reveal=True)) == {"A": "1"} for n in range(7))


async def keys_in_use(store: Store) -> list[bytes]:
    with store._environment.read() as txn:
        return store._sealing(txn).keys()


def with_secret(name: str, value: str) -> pb.FunctionVersion:
    made = function(name)
    made.settings = pb.FunctionSettings(secrets={"A": value})
    return made


async def test_a_secret_that_was_altered_keeps_no_other_from_its_function(store: Store) -> None:
    made = await store.create(with_secret("a", "1"), bundle(b"1"))
    await store.create(with_secret("b", "2"), bundle(b"1"))
    database = store._environment.databases["secrets"]

    def alter(txn: Any) -> None:
        key = b"a\0" + made.version.version.to_bytes(8, "big")
        row = json.loads(txn.get(key, db=database))
        row["A"] = base64.b64encode(base64.b64decode(row["A"])[:-1] + b"x").decode()
        txn.put(key, json.dumps(row).encode(), db=database)

    await store._writer.run(alter)
    assert told(store.get("a", reveal=True)) == {"A": ""}
    assert told(store.get("b", reveal=True)) == {"A": "2"}
    with pytest.raises(BadRequest, match=r"does not open .*give it anew"):
        await store.update("a", lambda now: now, None)
    with pytest.raises(KeyRefused, match="the secret 'A' of a does not open"):
        await store.rotate()
    assert told((await store.update("a", lambda now: with_secret("a", "3"), None)).version) == {
        "A": ""
    }
    assert told(store.get("a", reveal=True)) == {"A": "3"}


async def test_secrets_go_with_their_version(store: Store) -> None:
    await store.create(with_secret("a", "1"), bundle(b"1"))
    await store.delete("a")
    with store._environment.read() as txn:
        assert txn.stat(store._environment.databases["secrets"])["entries"] == 0


async def test_an_update_that_changes_nothing_can_be_asked_to_make_no_version(api: Any) -> None:
    await api.create("a", env={"A": "1"}, secrets={"KEY": "one", "OTHER": "x"})

    async def version_after(**settings: Any) -> int:
        form = {"settings": (None, json.dumps(settings))}
        answer = await api.http.put("functions/a", files=form, params={"unless_same": "true"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["applied"] is True
        version: int = answer.json()["version"]
        return version

    assert await version_after(secrets={"KEY": "one"}) == 1
    assert (
        await version_after(env={"A": "1"}, timeout=60, secrets={"KEY": "one", "OTHER": "x"}) == 1
    )
    assert await version_after(secrets={"KEY": "two"}) == 2
    assert await version_after(secrets={"KEY": "two"}) == 2
    assert await version_after(secrets={"OTHER": None}) == 3
    assert await version_after(env={}) == 4
    plain = await api.update("a", settings={})
    assert plain.json()["version"] == 5  # who does not ask gets one
