"""npm builds that fail: whose fault it is, what is told, and that nothing is left."""

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
from sanfran_api.builds.npm import NpmLimits, Run
from sanfran_api.bundles.layout import Limits

from api.tests.builds.conftest import INDEX, leftovers, locked, refusal, send, tar
from tests.npm_registry import NpmRegistry, tarball


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


async def test_dependencies_out_of_git_are_refused(api: Any) -> None:
    package = json.dumps({"dependencies": {"left": "git+https://localhost:1/left.git"}})
    message = refusal(await send(api, "a", tar({"package.json": package, "index.js": INDEX})), 422)
    assert "EALLOWGIT" in message or "git" in message.lower()


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


def test_npm_s_reason_is_told_without_npm_s_manual() -> None:
    said: list[str] = []
    limits = NpmLimits(timeout=1, memory=1, output=1)
    tree = Limits(upload_bytes=1, unpacked_bytes=1, files=1)
    run = Run("npm ci", limits, tree, Path(), said.append)
    reason = ["npm error code EUSAGE", "npm error Invalid: lock file's ms@2.1.3"]
    usage = ["npm error Clean install a project", "npm error Usage:", "npm error npm ci"]
    for line in (*reason, "npm error", *usage, "npm error Options:", "npm error [--omit <dev>]"):
        run.heard(line.encode())
    assert str(run.failure(1)) == "npm ci failed: EUSAGE\nInvalid: lock file's ms@2.1.3"
    assert said == reason
