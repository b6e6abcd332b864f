"""Whether an upload is built, and of what. Pure.

A build sees package.json (what concerns dependencies of it), the lock file and .npmrc, and nothing else, so
that whatever else changes in a folder builds nothing. Where packages lie in the folder itself (workspaces,
`file:`) it sees the whole folder.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from sanfran_api.errors import BadRequest
from sanfran_api.names import shorten

LOCKS = ("npm-shrinkwrap.json", "package-lock.json")
"""In npm's order."""
OTHER_LOCK = "yarn.lock"
"""npm takes versions from it when it has no lock of its own."""
NPMRC = ".npmrc"
WANTED = ("dependencies", "optionalDependencies")
CONCERNS = (
    *WANTED,
    *("devDependencies", "peerDependencies", "peerDependenciesMeta", "bundleDependencies"),
    *("bundledDependencies", "overrides", "workspaces", "engines", "os", "cpu", "libc"),
)
"""The fields of package.json that an installation depends on."""
LOCAL = re.compile(r"(file:|link:|\.|/|~/)", re.IGNORECASE)
"""How a dependency begins that lies in a folder: npm-package-arg."""

OPTIONS = frozenset(
    {
        *("registry", "replace-registry-host", "always-auth"),
        *("_auth", "_authToken", "username", "_password", "email"),
        *("legacy-peer-deps", "strict-peer-deps", "engine-strict", "install-strategy"),
        *("prefer-dedupe", "bin-links", "maxsockets"),
    }
)
"""Of .npmrc. Others could name programs that npm starts, or files of the service's machine; or, as `proxy`, `ca` and
`strict-ssl` do, who stands between npm and the registries, and sees the service's own credentials for them."""
FOR_A_REGISTRY = re.compile(r"//[^\s=]*:(_authToken|_auth|username|_password|email|always-auth)")
OF_A_SCOPE = re.compile(r"@[^\s=:]+:registry")

Read = Callable[[str], bytes | None]
"""Gives the content of a file in the upload, None when it has none of that name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A build.

    Args:
        files: to be written into its folder; with `whole` they come over the upload's own.
        lock: name of the lock file; empty: there is none, so versions are chosen anew each time.
        whole: packages lie in the upload itself: all of it is needed.
        notes: for who has sent it.
    """

    files: dict[str, bytes]
    lock: str
    whole: bool
    notes: tuple[str, ...]

    def key(self, *facts: bytes) -> str:
        """Names what comes of it: the same key, the same `node_modules`.

        Args:
            facts: what it depends on besides: versions of the tools, the platform, the whole upload.
        """
        digest = hashlib.sha256()
        for part in (*(part for one in sorted(self.files.items()) for part in one), *facts):
            raw = part.encode() if isinstance(part, str) else part
            digest.update(len(raw).to_bytes(8, "big") + raw)
        return digest.hexdigest()


def plan_build(read: Read, has_modules: bool) -> Plan | None:
    """What has to be built; None when nothing has.

    Args:
        has_modules: the upload has a `node_modules` of its own, which is taken as it is.

    Raises:
        BadRequest: a dependency lies outside the upload, or a file is not JSON.
    """
    text = read("package.json")
    if text is None or has_modules:
        return None
    package = _parse("package.json", text)
    if not any(package.get(field) for field in WANTED):
        return None
    local = bool(package.get("workspaces"))
    for field in (*WANTED, "devDependencies"):
        named = package.get(field)
        for name, spec in named.items() if isinstance(named, dict) else ():
            if isinstance(spec, str) and LOCAL.match(spec):
                local = True
                _stay_inside(f"package.json: {field}.{name}", spec)
    lock = next((name for name in LOCKS if read(name) is not None), "")
    files: dict[str, bytes] = {}
    if lock:
        content = files[lock] = read(lock) or b""
        _check_lock(lock, _parse(lock, content))
    elif (other := read(OTHER_LOCK)) is not None:
        files[OTHER_LOCK] = other
    if not local:
        concerns = {field: package[field] for field in CONCERNS if field in package}
        if not lock:  # npm would look for them, though it leaves them out; a lock has to match them
            concerns.pop("devDependencies", None)
        text = json.dumps(concerns, indent=2, sort_keys=True).encode()
    files["package.json"] = text
    npmrc, left_out = _tidy(read(NPMRC) or b"")
    files[NPMRC] = npmrc
    notes = []
    if left_out:
        notes.append(f"not used of .npmrc: {', '.join(map(shorten, left_out))}")
    if not lock:
        notes.append(
            "no package-lock.json: versions are chosen anew in each build; `npm install` writes one"
        )
    return Plan(files, lock, local, tuple(notes))


def _parse(name: str, text: bytes) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(
            f"file: {name} is not JSON ({shorten(str(error))})", field="file"
        ) from None
    if not isinstance(found, dict):
        raise BadRequest(f"file: {name} is not a JSON object", field="file")
    return found


def _stay_inside(where: str, spec: str) -> None:
    path = spec.partition(":")[2] if spec.lower().startswith(("file:", "link:")) else spec
    # npm reads it as a URL: %2e is a dot there, a backslash a slash, and tabs and line ends are nothing.
    path = re.sub(r"[\t\r\n]", "", unquote(path).replace("\\", "/"))
    plain = posixpath.normpath(path.removeprefix("//"))
    if path.startswith(("/", "~")) or plain == ".." or plain.startswith("../"):
        raise BadRequest(
            f"file: {shorten(where)} is {shorten(spec)!r}, which lies outside the folder; copy it "
            "into it, or publish it to a registry",
            field="file",
        )


def _check_lock(name: str, lock: dict[str, object]) -> None:
    packages = lock.get("packages")
    for path, package in packages.items() if isinstance(packages, dict) else ():
        _stay_inside(f"{name}: packages", path)
        resolved = package.get("resolved") if isinstance(package, dict) else None
        if isinstance(resolved, str) and LOCAL.match(resolved):
            _stay_inside(f"{name}: {path}", resolved)


def _tidy(text: bytes) -> tuple[bytes, list[str]]:
    """The options of an .npmrc that a build takes, and the names of those it does not.

    Values with `${…}` are left out: no variable of the uploader's machine is known here, and those
    of the service are nobody's business.
    """
    kept: list[str] = []
    left_out: list[str] = []
    for raw in text.decode(errors="replace").splitlines():
        line = raw.strip()
        if not line or line.startswith(("#", ";")):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        known = name in OPTIONS or FOR_A_REGISTRY.fullmatch(name) or OF_A_SCOPE.fullmatch(name)
        if known and "${" not in value:
            kept.append(f"{name}{equals}{value}\n")
        else:
            left_out.append(name)
    return "".join(kept).encode(), left_out
