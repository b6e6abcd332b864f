"""A release of the chart, as its user has it: helm installs it, `sanfran` deploys to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chart.helm import CHART, helm
from tests.e2e.kubectl import LONG, Namespace, Object, run

SANFRAN = Path(sys.executable).with_name("sanfran")

LITTLE = {"requests": {"cpu": "20m"}}
SMALL = {
    "router": {"resources": LITTLE},
    "controller": {"poolSize": 3, "poolMax": 6, "maxPods": 16, "resources": LITTLE},
    "api": {"persistence": {"size": "1Gi"}, "resources": LITTLE},
}
"""Values that let two releases, one of them amid an upgrade, fit on two cores that others use too: without room new pods
wait, and with them what is tested."""


@dataclass(frozen=True, slots=True)
class Images:
    """Where the images are. All parts may be left empty: the chart's own values hold then."""

    registry: str
    tag: str
    pull_policy: str

    @staticmethod
    def of_environment() -> Images:
        """What `make e2e` was given."""
        found = os.environ.get
        return Images(
            found("E2E_IMAGE_REGISTRY", ""),
            found("E2E_IMAGE_TAG", ""),
            found("E2E_PULL_POLICY", "IfNotPresent"),
        )

    def values(self) -> dict[str, Any]:
        """For the chart."""
        return {
            "image": {"registry": self.registry, "tag": self.tag, "pullPolicy": self.pull_policy}
        }


class Release:
    """A release.

    Args:
        namespace: exists.
        name: of the release.
        images: to run.
        folder: exists and is empty: for function code and values.
    """

    def __init__(self, namespace: Namespace, name: str, images: Images, folder: Path) -> None:
        self.namespace = namespace
        self.name = name
        self.fullname = name if "sanfran" in name else f"{name}-sanfran"
        self.images = images
        self._folder = folder

    @property
    def router(self) -> str:
        """host:port of the router, seen from pods of the namespace."""
        return f"{self.fullname}-router:80"

    def selector(self, component: str) -> str:
        """Of a component's pods: router, controller, api."""
        return f"sanfran.dev/release={self.fullname},app.kubernetes.io/component={component}"

    # The chart

    def helm(self, command: str, *args: str) -> str:
        """Runs a helm command on this release; see `run`."""
        patience = ["--timeout", f"{LONG:.0f}s"]
        names = [*args, "--namespace", self.namespace.name, *patience]
        return run(helm(), command, self.name, *names, timeout=LONG + 30)

    def upgrade(self, changed: dict[str, Any] | None = None) -> None:
        """Installs, or upgrades with further values, and waits until all runs."""
        values = self._folder / "values.yaml"
        values.write_text(json.dumps({**SMALL, **self.images.values()}))
        change = self._folder / "changed.yaml"
        change.write_text(json.dumps(changed or {}))
        files = ["--values", str(values), "--values", str(change)]
        more = os.environ.get("E2E_VALUES")
        self.helm(
            *("upgrade", str(CHART), "--install", "--wait", *files),
            *(["--values", more] if more else []),
        )

    def restart(self, component: str) -> None:
        """Deletes all pods of a component at once, and waits until others are ready."""
        selector = self.selector(component)
        before = {pod["metadata"]["uid"] for pod in self.namespace.get("pods", selector)}
        self.namespace.kubectl("delete", "pods", "--selector", selector, timeout=LONG)
        kind = "statefulset" if component == "api" else "deployment"
        self.namespace.kubectl(
            *("rollout", "status", f"{kind}/{self.fullname}-{component}"),
            timeout=LONG,
        )
        after = {pod["metadata"]["uid"] for pod in self.namespace.pods(selector)}
        assert not before & after

    # Function pods

    def pods(self, function: str | None = None) -> list[Object]:
        """Function pods; with a name, those that say that they serve it."""
        selector = f"sanfran.dev/release={self.fullname},"
        if function is None:
            return self.namespace.pods(selector + "sanfran.dev/controller")
        return self.namespace.pods(selector + f"sanfran.dev/function={function}")

    # Functions

    @contextmanager
    def api(self) -> Iterator[str]:
        """URL of the REST service for its administrator, while the block runs."""
        name = f"{self.fullname}-api"
        [secret] = [one for one in self.namespace.get("secrets") if one["metadata"]["name"] == name]
        password = b64decode(secret["data"]["admin-password"]).decode()
        with self.namespace.forwarded(f"service/{name}", 8081) as port:
            yield f"http://admin:{password}@127.0.0.1:{port}"

    def cli(self, *args: str | Path) -> str:
        """Runs a `sanfran` command against this release."""
        with self.api() as url:
            environment = {**os.environ, "SANFRAN_API": url}
            done = subprocess.run(
                [SANFRAN, *map(str, args)],
                capture_output=True,
                text=True,
                timeout=120,
                env=environment,
            )
        assert done.returncode == 0, f"sanfran {args}: {done.stdout}{done.stderr}"
        return done.stdout

    def _file(self, name: str, code: str) -> Path:
        path = self._folder / f"{name}.js"
        path.write_text(code)
        return path

    def deploy(self, name: str, code: str, *flags: str) -> None:
        """Creates a function from source text."""
        self.cli("create", name, self._file(name, code), *flags)

    def update(self, name: str, code: str) -> None:
        """Gives a function new code, and returns when nobody can meet the old one."""
        self.cli("update", name, self._file(name, code))


def says(text: object) -> str:
    """Source of a function that answers with a text."""
    return f"module.exports = (req, res) => res.send({json.dumps(str(text))});"
