"""npm builds: real npm, against a registry on loopback."""

import asyncio
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sanfran_api.builds.cache import BuildCache
from sanfran_api.builds.npm import NpmLimits, Run
from sanfran_api.bundles.layout import Limits
from sanfran_proto.sanfran import v1 as pb

from tests.npm_registry import NpmRegistry, tarball

INDEX = "module.exports = (req, res) => res.send(require('left')('x'));\n"


def tar(files: dict[str, str]) -> bytes:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content.encode())
            archive.addfile(info, io.BytesIO(content.encode()))
    return into.getvalue()


@pytest.fixture
def registry() -> Iterator[NpmRegistry]:
    with NpmRegistry() as running:
        running.add("left", {"index.js": "module.exports = (text) => 'left ' + text;\n"})
        running.add("right", {"index.js": "module.exports = 1;\n"})
        yield running


@pytest.fixture
def settings(registry: NpmRegistry, tmp_path: Path) -> dict[str, Any]:
    """Of a service whose builds know no registry but ours, whatever this machine's npm knows."""
    config = tmp_path / "npmrc"
    config.write_text("fetch-retries=0\n")
    return {"npm_registry": registry.url, "npm_config": str(config)}


@pytest.fixture
async def api(run_api: Any, settings: dict[str, Any]) -> AsyncIterator[Any]:
    async with run_api(**settings) as running:
        yield running


def locked(registry: NpmRegistry, *names: str, **files: str) -> bytes:
    return tar({**registry.lock(*names), "index.js": INDEX, **files})


async def send(
    api: Any, name: str, code: bytes, *, update: bool = False, lines: bool = False, **fields: str
) -> httpx.Response:
    headers = {"accept": "application/x-ndjson"} if lines else {}
    files = {"file": ("a.tar", code)}
    answer: httpx.Response
    if update:
        path = f"functions/{name}"
        answer = await api.http.put(path, data=fields, files=files, headers=headers)
    else:
        fields = {"name": name, **fields}
        answer = await api.http.post("functions", data=fields, files=files, headers=headers)
    return answer


async def files_of(api: Any, digest: str) -> dict[str, bytes]:
    content = io.BytesIO(await api.bundle(digest))
    with tarfile.open(fileobj=content, mode="r:") as archive:
        return {one.name: _read(archive, one) for one in archive}


def _read(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info) if info.isreg() else None
    return file.read() if file is not None else b""


def refusal(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == "build_failed"
    message: str = error["message"]
    return message


def leftovers(data: Path) -> list[Path]:
    return list((data / "builds/running").iterdir())


async def test_dependencies_are_installed_as_the_lock_says(
    api: Any, registry: NpmRegistry, tmp_path: Path
) -> None:
    made = await send(api, "a", locked(registry, "left"))
    assert made.status_code == 201, made.text
    files = await files_of(api, made.json()["digest"])
    assert files["node_modules/left/index.js"].startswith(b"module.exports = (text)")
    assert files["index.js"].decode() == INDEX
    assert not [name for name in files if name.endswith(".package-lock.json")]
    assert leftovers(tmp_path / "data") == []
    for kept in (tmp_path / "data/builds/modules").iterdir():
        kept.unlink()
    again = await send(api, "b", locked(registry, "left"))
    assert again.json()["digest"] == made.json()["digest"]


async def test_without_a_lock_npm_chooses_versions_and_says_so(
    api: Any, registry: NpmRegistry
) -> None:
    registry.add("left", {"index.js": "2"}, version="1.2.0")
    package = json.dumps({"dependencies": {"left": "^1.0.0"}, "devDependencies": {"nowhere": "1"}})
    made = await send(api, "a", tar({"package.json": package, "index.js": INDEX}), lines=True)
    *said, last = [json.loads(line) for line in made.text.splitlines()]
    assert last["status"] == 201
    assert any("no package-lock.json" in one["log"] for one in said)
    assert any("added 1 package" in one["log"] for one in said)
    files = await files_of(api, last["function"]["digest"])
    assert json.loads(files["node_modules/left/package.json"])["version"] == "1.2.0"


async def test_an_unchanged_lock_builds_nothing_whatever_else_has_changed(
    api: Any, registry: NpmRegistry, run_api: Any, settings: dict[str, Any]
) -> None:
    first = await send(api, "a", locked(registry, "left"))
    asked = registry.asked.total()
    files = registry.lock("left")
    package = json.dumps({**json.loads(files["package.json"]), "version": "2.0.0"})
    code = tar({**files, "package.json": package, "index.js": INDEX + "// changed\n"})
    second = await send(api, "a", code, update=True, lines=True)
    *said, last = [json.loads(line) for line in second.text.splitlines()]
    assert [one["log"] for one in said] == [
        "node_modules: as built before for the same package-lock.json"
    ]
    assert last["function"]["digest"] != first.json()["digest"]
    assert registry.asked.total() == asked
    assert "node_modules/left/index.js" in await files_of(api, last["function"]["digest"])


async def test_a_folder_with_node_modules_or_without_dependencies_is_taken_as_it_is(
    api: Any, registry: NpmRegistry
) -> None:
    own = {"node_modules/left/index.js": "mine"}
    made = await send(api, "a", locked(registry, "left", **own))
    assert (await files_of(api, made.json()["digest"]))["node_modules/left/index.js"] == b"mine"
    plain = tar({"package.json": '{"dependencies": {}, "name": "x"}', "index.js": INDEX})
    assert (await send(api, "b", plain)).status_code == 201
    asis = await send(api, "c", locked(registry, "left"), build="false")
    assert "node_modules/left/index.js" not in await files_of(api, asis.json()["digest"])
    assert registry.asked.total() == 0
    refused = await send(api, "d", plain, build="no")
    assert refused.json()["error"]["field"] == "build"


async def test_a_failed_build_says_why_and_the_previous_version_stays(
    api: Any, registry: NpmRegistry, tmp_path: Path
) -> None:
    first = (await send(api, "a", locked(registry, "left"))).json()
    package = json.dumps({"dependencies": {"nowhere": "^1.0.0"}})
    code = tar({"package.json": package, "index.js": INDEX})
    message = refusal(await send(api, "a", code, update=True), 422)
    assert message.startswith("npm install failed: E404")
    assert "nowhere" in message
    assert "complete log" not in message
    told = await send(api, "a", code, update=True, lines=True)
    last = json.loads(told.text.splitlines()[-1])
    assert (last["status"], last["error"]["code"]) == (422, "build_failed")
    now = (await api.http.get("functions/a")).json()
    assert (now["version"], now["digest"]) == (1, first["digest"])
    assert leftovers(tmp_path / "data") == []


async def test_a_tarball_that_is_not_what_the_lock_says_is_refused(
    api: Any, registry: NpmRegistry
) -> None:
    registry.swap["/left/-/left-1.0.0.tgz"] = tarball({"package.json": "{}", "index.js": "evil"})
    assert "EINTEGRITY" in refusal(await send(api, "a", locked(registry, "left")), 422)
    registry.swap.clear()
    assert (await send(api, "a", locked(registry, "left"))).status_code == 201


async def test_a_lock_that_does_not_fit_is_npms_to_refuse(api: Any, registry: NpmRegistry) -> None:
    files = {**registry.lock("left"), "package.json": '{"dependencies": {"right": "1.0.0"}}'}
    message = refusal(await send(api, "a", tar({**files, "index.js": INDEX})), 422)
    assert "EUSAGE" in message
    assert "right" in message


async def test_a_registry_that_fails_is_named_as_that(api: Any, registry: NpmRegistry) -> None:
    registry.broken = True
    assert "E503" in refusal(await send(api, "a", locked(registry, "left")), 502)


async def test_scripts_of_packages_do_not_run(
    api: Any, registry: NpmRegistry, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    registry.add("bad", {}, scripts={"install": f"touch {mark}"}, hasInstallScript=True)
    made = await send(api, "a", locked(registry, "bad"))
    assert made.status_code == 201, made.text
    assert not mark.exists()


@pytest.mark.parametrize(
    "spec",
    [
        *("file:../left", "/etc", "file:/etc", "../left", "~/left", "link:a/../../b"),
        *("file:%2e%2e/left", ".%2E/left", "FILE:../left", "file:..\\left", "file:.\t./left"),
    ],
)
async def test_a_dependency_outside_the_folder_is_refused_by_name(api: Any, spec: str) -> None:
    package = json.dumps({"dependencies": {"left": spec}})
    answer = await send(api, "a", tar({"package.json": package, "index.js": INDEX}))
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert "dependencies.left" in message
    assert repr(spec) in message


async def test_so_is_one_in_the_lock(api: Any, registry: NpmRegistry) -> None:
    files = registry.lock("left")
    lock = json.loads(files["package-lock.json"])
    lock["packages"]["node_modules/left"] = {"resolved": "../../secret", "link": True}
    files["package-lock.json"] = json.dumps(lock)
    answer = await send(api, "a", tar({**files, "index.js": INDEX}))
    assert answer.status_code == 400
    assert "node_modules/left" in answer.json()["error"]["message"]


async def test_packages_in_the_folder_itself_are_linked_or_built(
    api: Any, registry: NpmRegistry
) -> None:
    files = {
        "package.json": json.dumps({"dependencies": {"mine": "file:./lib/mine"}}),
        "lib/mine/package.json": json.dumps(
            {"name": "mine", "version": "1.0.0", "dependencies": {"left": "1.0.0"}}
        ),
        "lib/mine/index.js": "module.exports = 1",
        "index.js": "exports.a = () => require('mine')",
    }
    made = await send(api, "a", tar(files))
    assert made.status_code == 201, made.text
    found = await files_of(api, made.json()["digest"])
    assert "node_modules/left/index.js" in found
    assert "node_modules/mine" in found  # the link


async def test_dependencies_out_of_git_are_refused(api: Any) -> None:
    package = json.dumps({"dependencies": {"left": "git+https://localhost:1/left.git"}})
    message = refusal(await send(api, "a", tar({"package.json": package, "index.js": INDEX})), 422)
    assert "EALLOWGIT" in message or "git" in message.lower()


async def test_an_npmrc_is_used_for_registries_only(
    api: Any, registry: NpmRegistry, tmp_path: Path
) -> None:
    with NpmRegistry() as private:
        private.add("@own/left", {"index.js": "private"})
        package = json.dumps({"dependencies": {"@own/left": "1.0.0"}})
        npmrc = (
            f"@own:registry={private.url}\n; a comment\nignore-scripts=false\n"
            f"git=/bin/sh\ncache={tmp_path}/elsewhere\nregistry=${{HOME}}\n"
            "strict-ssl=false\nca=mine\nproxy=http://127.0.0.1:1\nhttps-proxy=http://127.0.0.1:1\n"
        )
        code = tar({"package.json": package, ".npmrc": npmrc, "index.js": INDEX})
        told = await send(api, "a", code, lines=True)
        *said, last = [json.loads(line) for line in told.text.splitlines()]
        assert last["status"] == 201, last
        assert said[0]["log"] == (
            "not used of .npmrc: ignore-scripts, git, cache, registry, strict-ssl, ca, proxy, https-proxy"
        )
        assert private.asked["/@own/left"] == 1
    assert not (tmp_path / "elsewhere").exists()


async def test_what_a_build_with_an_npmrc_of_its_own_downloads_is_for_no_other(
    api: Any, registry: NpmRegistry
) -> None:
    # Credentials may have opened it: whoever knows its address must not get it without them.
    with_own = locked(registry, "left", **{".npmrc": "email=a\n"})
    assert (await send(api, "a", with_own)).status_code == 201
    assert (await send(api, "b", locked(registry, "left"))).status_code == 201
    assert registry.asked["/left/-/left-1.0.0.tgz"] == 2
    again = locked(registry, "left", "right")
    assert (await send(api, "c", again)).status_code == 201
    assert registry.asked["/left/-/left-1.0.0.tgz"] == 2


async def test_a_build_that_takes_too_long_is_ended(
    run_api: Any, settings: dict[str, Any], registry: NpmRegistry, tmp_path: Path
) -> None:
    registry.delay = 30.0
    async with run_api(**settings, build_timeout=1.5) as api:
        message = refusal(await send(api, "a", locked(registry, "left")), 422)
        assert "--build-timeout" in message
        assert not psutil.Process().children()
        assert leftovers(tmp_path / "data") == []
        registry.delay = 0.0


async def test_a_build_that_wants_too_much_memory_is_ended(
    run_api: Any, settings: dict[str, Any], registry: NpmRegistry
) -> None:
    registry.delay = 3.0
    async with run_api(**settings, build_memory=20 << 20) as api:
        assert "--build-memory" in refusal(await send(api, "a", locked(registry, "left")), 422)


async def test_a_build_that_floods_its_output_is_ended(
    run_api: Any, settings: dict[str, Any], registry: NpmRegistry
) -> None:
    for number in range(20):
        registry.add(f"old-{number}", {}, deprecated="x" * 500)
    code = tar(
        {
            "package.json": json.dumps({"dependencies": {f"old-{n}": "1.0.0" for n in range(20)}}),
            "index.js": INDEX,
        }
    )
    async with run_api(**settings, build_output=2000) as api:
        assert "--build-output" in refusal(await send(api, "a", code), 422)


async def test_what_is_installed_has_the_limits_of_every_upload(
    run_api: Any, settings: dict[str, Any], registry: NpmRegistry
) -> None:
    registry.add("left", {f"{n}.js": "" for n in range(100)})
    async with run_api(**settings, max_files=50) as api:
        answer = await send(api, "a", locked(registry, "left"))
        assert answer.status_code == 413


async def test_two_builds_that_are_the_same_are_one(
    api: Any, registry: NpmRegistry, tmp_path: Path
) -> None:
    registry.delay = 0.3
    code = locked(registry, "left")
    answers = await asyncio.gather(*(send(api, f"f{n}", code, lines=n > 0) for n in range(3)))
    assert {answer.status_code for answer in answers} == {201, 200}
    assert registry.asked["/left/-/left-1.0.0.tgz"] == 1


async def test_one_of_two_who_wait_may_leave(api: Any, registry: NpmRegistry) -> None:
    registry.delay = 1.0
    code = locked(registry, "left")
    leaving = asyncio.create_task(send(api, "leaves", code))
    await _asked(registry)
    staying = asyncio.create_task(send(api, "stays", code))
    await asyncio.sleep(0.1)
    leaving.cancel()
    assert (await staying).status_code == 201
    assert (await api.http.get("functions/leaves")).status_code == 404
    assert registry.asked["/left/-/left-1.0.0.tgz"] == 1


async def test_a_build_ends_when_the_last_who_waits_leaves(
    api: Any, registry: NpmRegistry, tmp_path: Path
) -> None:
    registry.delay = 5.0
    sending = asyncio.create_task(send(api, "a", locked(registry, "left")))
    await _asked(registry)
    assert psutil.Process().children()
    sending.cancel()
    await _until(lambda: not psutil.Process().children() and not leftovers(tmp_path / "data"))


async def _asked(registry: NpmRegistry) -> None:
    await _until(lambda: bool(registry.asked))


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  # processes and folders tell nobody
            await asyncio.sleep(0.02)


async def test_beyond_those_that_wait_a_build_is_refused(
    run_api: Any, settings: dict[str, Any], registry: NpmRegistry
) -> None:
    registry.delay = 5.0

    def code(number: int) -> bytes:
        npmrc = f"email={number}\n"  # so that each is a build of its own
        return locked(registry, "left", **{".npmrc": npmrc})

    async with run_api(**settings, builds_at_once=1, builds_waiting=1) as api:
        running = asyncio.create_task(send(api, "a", code(1)))
        await _asked(registry)
        waiting = asyncio.create_task(send(api, "b", code(2)))
        await asyncio.sleep(0.5)  # were it the later one, it would be the one that is refused
        refused = await send(api, "c", code(3))
        assert refused.status_code == 503, refused.text
        assert refused.headers["retry-after"] == "1"
        running.cancel()
        waiting.cancel()
        await _until(lambda: not psutil.Process().children())


async def test_a_build_ends_with_the_service(
    run_api: Any, settings: dict[str, Any], registry: NpmRegistry
) -> None:
    registry.delay = 5.0
    async with run_api(**{**settings, "stop_grace": 0.1}) as api:
        sending = asyncio.create_task(send(api, "a", locked(registry, "left")))
        await _asked(registry)
    assert not psutil.Process().children()
    with pytest.raises(httpx.TransportError):
        await sending


async def test_what_a_killed_service_left_is_gone_at_the_next_start(
    run_api: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    left = tmp_path / "data/builds/running/abc/work"
    left.mkdir(parents=True)
    half = tmp_path / "data/builds/modules/x.1234.partial"
    half.parent.mkdir()
    half.touch()
    async with run_api(**settings):
        assert not left.exists()
        assert not half.exists()


def test_the_cache_is_bounded_and_drops_what_was_not_used_for_the_longest(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path, 250)
    cache.open()
    for number, key in enumerate("abc"):
        path = cache.partial(key)
        path.write_bytes(b"x" * 100)
        cache.keep(key, path)
        os.utime(tmp_path / f"modules/{key}.tar", (number, number))
    (cache.downloads / "some").write_bytes(b"x" * 300)
    used = cache.find("a")
    assert used is not None
    cache.make_room(busy=True)
    assert sorted(path.name for path in (tmp_path / "modules").iterdir()) == ["a.tar", "c.tar"]
    assert list(cache.downloads.iterdir())
    with used:
        cache.make_room(busy=False)
        assert used.read() == b"x" * 100
    assert not list(cache.downloads.iterdir())


async def test_a_full_disk_is_507_and_leaves_nothing(
    api: Any, registry: NpmRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sanfran_api.builds import builder

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(builder, "write_tar", full)
        answer = await send(api, "a", locked(registry, "left"))
    assert answer.status_code == 507
    assert leftovers(tmp_path / "data") == []
    assert list((tmp_path / "data/builds/modules").iterdir()) == []


async def test_grpc_builds_too(api: Any, registry: NpmRegistry) -> None:
    async def parts(no_build: bool) -> AsyncIterator[pb.Upload]:
        header = pb.UploadHeader(
            name=f"a{no_build}".lower(), file_name="a.tar", no_build=no_build, source="s1"
        )
        yield pb.Upload(header=header)
        yield pb.Upload(chunk=locked(registry, "left"))

    for no_build in (True, False):
        made = await api.stub.create_function(parts(no_build))
        assert made.source == "s1"
        files = await files_of(api, made.digest)
        assert ("node_modules/left/index.js" in files) is not no_build


async def test_the_source_that_a_client_names_stays_with_its_code(
    api: Any, registry: NpmRegistry
) -> None:
    code = tar({"index.js": INDEX})
    assert (await send(api, "a", code, source="v1")).json()["source"] == "v1"
    assert (await api.update("a", settings={"timeout": 3})).json()["source"] == "v1"
    assert (await send(api, "a", code, update=True)).json()["source"] == ""
    refused = await send(api, "a", code, update=True, source="x" * 201)
    assert refused.json()["error"]["field"] == "source"


async def test_a_folder_of_its_own_in_the_archive_is_built_like_its_content(
    api: Any, registry: NpmRegistry
) -> None:
    files = {f"shop/{name}": text for name, text in registry.lock("left").items()}
    made = await send(api, "a", tar({**files, "shop/index.js": INDEX}))
    assert made.status_code == 201, made.text
    found = await files_of(api, made.json()["digest"])
    assert {"index.js", "package.json", "node_modules/left/index.js"} <= set(found)
    own = {"shop/node_modules/left/index.js": "mine"}
    asked = registry.asked.total()
    kept = await send(api, "b", tar({**files, **own, "shop/index.js": INDEX}))
    assert (await files_of(api, kept.json()["digest"]))["node_modules/left/index.js"] == b"mine"
    assert registry.asked.total() == asked


@pytest.mark.parametrize(
    ("lines", "code", "status", "says"),
    [
        (["npm error code ENOSPC", "npm error no space left"], 1, 507, "disk"),
        (["npm error code EFBIG"], 1, 413, "dependencies"),
        (["npm error code ECONNREFUSED", "npm error connect"], 1, 502, "ECONNREFUSED"),
        (["npm error code E404", "npm error 404 not there"], 1, 422, "not there"),
        (["FATAL ERROR: JavaScript heap out of memory"], -6, 422, "--build-memory"),
        (["something odd"], 7, 422, "exit code 7"),
        ([], -9, 422, "signal 9"),
    ],
)
def test_the_end_of_npm_is_told_by_whose_fault_it_is(
    lines: list[str], code: int, status: int, says: str
) -> None:
    limits = NpmLimits(timeout=1, memory=1, output=1)
    run = Run("npm ci", limits, Limits(upload_bytes=1, unpacked_bytes=1, files=1), Path(), print)
    for line in lines:
        run.heard(line.encode())
    error = run.failure(code)
    assert error.http_status == status
    assert says in str(error)
