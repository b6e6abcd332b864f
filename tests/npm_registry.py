"""An npm registry on loopback with packages that a test has made: builds are tested without internet."""

import base64
import hashlib
import io
import json
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

Files = Mapping[str, str | bytes]


def tarball(files: Files) -> bytes:
    """A package as npm packs it: everything in the folder `package`."""
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            raw = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return into.getvalue()


class NpmRegistry:
    """Serves while its `with` lasts.

    Attributes:
        url: of the registry.
        asked: how often each path was.
        delay: seconds before each answer.
        broken: answer everything with 503.
        swap: tarballs by path that come instead of the right ones.
        moved: URLs by path that it says to ask instead.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.delay = 0.0
        self.broken = False
        self.swap: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self._packages: dict[str, dict[str, Any]] = {}
        self._tarballs: dict[str, bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add(self, name: str, files: Files, *, version: str = "1.0.0", **fields: Any) -> None:
        """Publishes a package; fields go into its package.json, such as `dependencies`."""
        manifest = {"name": name, "version": version, **fields}
        content = tarball({"package.json": json.dumps(manifest), **files})
        path = f"/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
        self._tarballs[path] = content
        self._packages.setdefault(name, {})[version] = {
            **manifest,
            "dist": {"tarball": f"{self.url}{path}", "integrity": integrity(content)},
        }

    def add_installed(self, modules: Path) -> None:
        """Publishes what lies in a `node_modules`, nested ones included."""
        for manifest in sorted(modules.rglob("package.json")):
            folder = manifest.parent
            above = (
                folder.parent.name
                if not folder.parent.name.startswith("@")
                else folder.parent.parent.name
            )
            if above != "node_modules":
                continue
            facts = json.loads(manifest.read_text())
            files = {
                str(path.relative_to(folder)): path.read_bytes()
                for path in folder.rglob("*")
                if path.is_file()
                and "node_modules" not in path.relative_to(folder).parts
                and path != manifest
            }
            kept = ("main", "exports", "type", "dependencies", "module", "browser", "engines")
            fields = {name: facts[name] for name in kept if name in facts}
            self.add(facts["name"], files, version=facts["version"], **fields)

    def lock(self, *names: str, **package: Any) -> dict[str, str]:
        """package.json and package-lock.json of a folder that depends on these, without further ones."""
        wanted = dict.fromkeys(names, "1.0.0")
        packages: dict[str, Any] = {"": {**package, "dependencies": wanted}}
        for name in names:
            dist = self._packages[name]["1.0.0"]["dist"]
            packages[f"node_modules/{name}"] = {
                "version": "1.0.0",
                "resolved": dist["tarball"],
                "integrity": dist["integrity"],
            }
        lock = {"lockfileVersion": 3, "requires": True, "packages": packages}
        return {
            "package.json": json.dumps({**package, "dependencies": wanted}),
            "package-lock.json": json.dumps(lock),
        }

    def _answer(self, path: str) -> tuple[int, bytes]:
        self.asked[path] += 1
        time.sleep(self.delay)
        if self.broken:
            return 503, b"{}"
        if path in self.moved:
            return 302, b"{}"
        if path in self._tarballs:
            return 200, self.swap.get(path, self._tarballs[path])
        versions = self._packages.get(path[1:])
        if versions is None:
            return 404, b'{"error": "not found"}'
        latest = list(versions)[-1]
        packument = {"name": path[1:], "dist-tags": {"latest": latest}, "versions": versions}
        return 200, json.dumps(packument).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, body = registry._answer(unquote(self.path))
                try:
                    self.send_response(status)
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(body)))
                    if status == 302:
                        self.send_header("location", registry.moved[unquote(self.path)])
                    self.end_headers()
                    self.wfile.write(body)
                except ConnectionError:
                    pass  # a build that was ended

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def integrity(content: bytes) -> str:
    """As lock files have it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
