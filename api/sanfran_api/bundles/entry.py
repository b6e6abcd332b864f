"""Which module of a bundle is loaded. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable

from sanfran_api.errors import BadRequest
from sanfran_api.names import shorten

SUFFIXES = (".js", ".mjs", ".cjs", ".ts", ".mts", ".cts")
"""What Node loads as code; TypeScript by stripping its types."""
NAMES = tuple(
    f"{stem}{suffix}" for stem in ("index", "function") for suffix in (".js", ".mjs", ".cjs", ".ts")
)
"""Looked for in this order when package.json does not name the module."""
CONDITIONS = frozenset({"node", "module-sync", "import", "require", "default"})
"""Of package.json's conditional exports; the first key that is one of them counts, as in Node."""
MAX_PACKAGE_JSON = 1024 * 1024

Finds = Callable[[str], str | None]
"""Gives the path of the regular file that a path leads to, or None."""


def find_entry(package_json: bytes | None, finds: Finds) -> str:
    """The module to load: package.json's exports["."] or main, else index.*, else function.*.

    A `main` that does not exist is passed over, as Node does (npm writes "index.js" there
    unasked); `exports` is taken at its word.

    Args:
        package_json: its content; None when there is none.

    Raises:
        BadRequest: no module was found; says what was looked for.
    """
    looked: list[str] = []
    if package_json is not None:
        package = _parse(package_json)
        exported = _exported(package.get("exports"))
        if exported is not None:
            found = finds(_relative(exported))
            if found is None or not found.endswith(SUFFIXES):
                raise BadRequest(
                    f"file: package.json exports {shorten(exported)!r}, which is no module in the "
                    "bundle",
                    field="file",
                )
            return found
        main = package.get("main")
        if isinstance(main, str) and main:
            for candidate in _candidates(_relative(main)):
                looked.append(candidate)
                found = finds(candidate)
                if found is not None and found.endswith(SUFFIXES):
                    return found
    for name in NAMES:
        looked.append(name)
        if finds(name) is not None:
            return name
    raise BadRequest(
        f"file: no module to load; looked for {', '.join(map(shorten, looked))}. "
        'Name it in package.json as "main"',
        field="file",
    )


def _parse(content: bytes) -> dict[str, object]:
    try:
        package = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadRequest(
            f"file: package.json is not JSON ({shorten(str(error))})", field="file"
        ) from None
    if not isinstance(package, dict):
        raise BadRequest("file: package.json is not a JSON object", field="file")
    return package


def _exported(exports: object) -> str | None:
    """What `exports` gives for the package itself; None when it says nothing about that."""
    if isinstance(exports, dict) and any(str(key).startswith(".") for key in exports):
        exports = exports.get(".")
    return _target(exports)


def _target(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in CONDITIONS and (found := _target(inner)) is not None:
                return found
    if isinstance(value, list):
        for inner in value:
            if (found := _target(inner)) is not None:
                return found
    return None


def _relative(path: str) -> str:
    return path.removeprefix("./").rstrip("/") or "."


def _candidates(main: str) -> list[str]:
    """What Node tries for a `main`: the file, with a suffix, and as a folder."""
    index = "index.js" if main == "." else f"{main}/index.js"
    return [main, f"{main}.js", index]
