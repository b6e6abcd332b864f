"""Which module of a folder is loaded."""

import json
from typing import Any

import pytest
from sanfran_api.bundles.entry import find_entry
from sanfran_api.errors import BadRequest


def found(package: Any, *files: str) -> str:
    content = None if package is None else json.dumps(package).encode()
    present = set(files)
    return find_entry(content, lambda path: path if path in present else None)


@pytest.mark.parametrize(
    ("package", "files", "entry"),
    [
        (None, ["index.js", "function.js"], "index.js"),
        (None, ["index.ts", "index.mjs"], "index.mjs"),
        (None, ["function.cjs"], "function.cjs"),
        (None, ["function.ts", "other.js"], "function.ts"),
        ({}, ["index.js"], "index.js"),
        ({"main": "lib/a.js"}, ["lib/a.js", "index.js"], "lib/a.js"),
        ({"main": "./lib/a"}, ["lib/a.js"], "lib/a.js"),
        ({"main": "lib"}, ["lib/index.js"], "lib/index.js"),
        ({"main": "lib/"}, ["lib/index.js"], "lib/index.js"),
        ({"main": "."}, ["index.js"], "index.js"),
        ({"main": "index.js"}, ["function.js"], "function.js"),
        ({"main": 7}, ["index.js"], "index.js"),
        ({"main": "data.json"}, ["data.json", "index.js"], "index.js"),
        ({"exports": "./a.mjs", "main": "b.js"}, ["a.mjs", "b.js"], "a.mjs"),
        ({"exports": {".": "./a.js"}}, ["a.js"], "a.js"),
        (
            {"exports": {".": {"import": "./a.mjs", "require": "./a.cjs"}}},
            ["a.mjs", "a.cjs"],
            "a.mjs",
        ),
        ({"exports": {"browser": "./b.js", "default": "./a.js"}}, ["a.js", "b.js"], "a.js"),
        ({"exports": {"node": {"types": "./a.d.ts", "default": "./a.js"}}}, ["a.js"], "a.js"),
        ({"exports": [{"browser": "./b.js"}, "./a.js"]}, ["a.js"], "a.js"),
        ({"exports": {"./sub": "./s.js"}, "main": "m.js"}, ["m.js", "s.js"], "m.js"),
        ({"exports": None}, ["index.js"], "index.js"),
    ],
)
def test_the_entry_is_what_node_would_take(package: Any, files: list[str], entry: str) -> None:
    assert found(package, *files) == entry


@pytest.mark.parametrize(
    ("package", "files", "says"),
    [
        (None, ["app.js"], "looked for index.js, index.mjs"),
        ({"main": "dist/x.js"}, ["src/x.ts"], "looked for dist/x.js, dist/x.js.js"),
        ({"exports": "./dist/x.js"}, ["index.js"], "exports './dist/x.js'"),
        ({"exports": "./data.json"}, ["data.json"], "which is no module"),
        ({"exports": "../x.js"}, ["index.js"], "exports '../x.js'"),
        ([], ["index.js"], "not a JSON object"),
    ],
)
def test_a_folder_without_an_entry_is_told_what_was_looked_for(
    package: Any, files: list[str], says: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        found(package, *files)
    assert says in caught.value.message
    assert caught.value.field == "file"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_package_json_that_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(BadRequest, match=r"package\.json is not JSON"):
        find_entry(content, lambda path: path)
