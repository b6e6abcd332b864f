"""A Kubernetes API server for Helm: it keeps what is sent to it, and judges nothing."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from tests.chart.helm import CHART, Object, run

KINDS = {
    "v1": {
        "configmaps": "ConfigMap",
        "pods": "Pod",
        "secrets": "Secret",
        "serviceaccounts": "ServiceAccount",
        "services": "Service",
    },
    "apps/v1": {"deployments": "Deployment", "statefulsets": "StatefulSet"},
    "coordination.k8s.io/v1": {"leases": "Lease"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "rbac.authorization.k8s.io/v1": {"roles": "Role", "rolebindings": "RoleBinding"},
}
OBJECT = re.compile(r"^/apis?/(?:.*/)?namespaces/([^/]+)/([^/]+)(?:/([^/]+))?$")


class Cluster:
    """What it holds, by namespace, plural kind and name."""

    def __init__(self, folder: Path) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self._folder = folder

    def install(self, *settings: str) -> None:
        """Installs, or upgrades, the release `demo`."""
        sets = [word for one in settings for word in ("--set", one)]
        run(
            "upgrade", "--install", "demo", CHART, "--kubeconfig", self._folder / "config",
            "--namespace", "default", "--disable-openapi-validation", *sets,
        )  # fmt: skip

    def secrets(self) -> dict[str, dict[str, str]]:
        """The release's Secrets, by name."""
        return {
            name: dict(made["data"])
            for (_, kind, name), made in self.objects.items()
            if kind == "secrets" and name.startswith("demo-")
        }

    def answer(self, method: str, url: str, body: Object | None) -> tuple[int, Object]:
        """Status and object."""
        path, _, query = url.partition("?")
        if method == "GET" and (found := discovery(path)) is not None:
            return 200, found
        match = OBJECT.match(path)
        assert match is not None, path
        namespace, kind, name = match.groups()
        if method == "GET" and name is None:
            items = [
                made
                for key, made in self.objects.items()
                if key[:2] == (namespace, kind) and chosen(made, query)
            ]
            assert kind == "secrets"
            return 200, {"kind": "SecretList", "apiVersion": "v1", "metadata": {}, "items": items}
        if method == "POST":
            assert body is not None
            self.objects[namespace, kind, body["metadata"]["name"]] = body
            return 201, body
        made = self.objects.get((namespace, kind, name))
        if made is None:
            return 404, {
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound",
                "code": 404, "message": f"{kind} {name} not found",
            }  # fmt: skip
        if method == "DELETE":
            del self.objects[namespace, kind, name]
        elif method == "PUT":
            assert body is not None
            self.objects[namespace, kind, name] = made = body
        elif method == "PATCH":
            assert body is not None
            merge(made, body)
        return 200, made


def chosen(made: Object, query: str) -> bool:
    """Whether an object has the labels that a list is asked for."""
    (selector,) = parse_qs(query).get("labelSelector", [""])
    wanted = dict(one.split("=") for one in selector.split(",") if one)
    labels: dict[str, str] = made["metadata"].get("labels", {})
    return wanted.items() <= labels.items()


def discovery(path: str) -> Object | None:
    """What Helm asks before anything else."""
    groups = [group for group in KINDS if "/" in group]
    if path == "/version":
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        listed = []
        for group in groups:
            version = {"groupVersion": group, "version": group.partition("/")[2]}
            listed.append(
                {
                    "name": group.partition("/")[0],
                    "versions": [version],
                    "preferredVersion": version,
                }
            )
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    for group, kinds in KINDS.items():
        if path == (f"/apis/{group}" if "/" in group else f"/api/{group}"):
            return {
                "kind": "APIResourceList",
                "groupVersion": group,
                "resources": [
                    {
                        "name": plural,
                        "kind": kind,
                        "namespaced": True,
                        "singularName": "",
                        "verbs": ["get"],
                    }
                    for plural, kind in kinds.items()
                ],
            }
    return None


def merge(whole: Object, patch: Object) -> None:
    """A merge patch (RFC 7396), which is what a strategic one comes to for maps."""
    for key, value in patch.items():
        if value is None:
            whole.pop(key, None)
        elif isinstance(value, dict) and isinstance(whole.get(key), dict):
            merge(whole[key], value)
        else:
            whole[key] = value


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """One that is empty, while the `with` lasts."""
    held = Cluster(folder)

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body: Any = json.loads(self.rfile.read(length)) if length else None
            status, made = held.answer(self.command, self.path, body)
            content = json.dumps(made).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fake", "cluster": {"server": address}}],
        "users": [{"name": "fake", "user": {}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        "current-context": "fake",
    }
    (folder / "config").write_text(json.dumps(kubeconfig))
    (folder / "config").chmod(0o600)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
