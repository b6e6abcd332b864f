"""npm builds: what is installed, from where, and when nothing has to be."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from sanfran_proto.sanfran import v1 as pb

from api.tests.builds.conftest import INDEX, files_of, leftovers, locked, send, tar
from tests.npm_registry import NpmRegistry


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


async def test_scripts_of_packages_do_not_run(
    api: Any, registry: NpmRegistry, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    registry.add("bad", {}, scripts={"install": f"touch {mark}"}, hasInstallScript=True)
    made = await send(api, "a", locked(registry, "bad"))
    assert made.status_code == 201, made.text
    assert not mark.exists()


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
