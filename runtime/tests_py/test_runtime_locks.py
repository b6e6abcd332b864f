"""The npm locks fix what is installed, and name no host that it comes from."""

import json
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LOCKS = sorted(
    lock
    for folder in ("runtime", "api/docs-assets", "demo")
    for lock in (REPOSITORY / folder).rglob("package-lock.json")
    if "node_modules" not in lock.parts
)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(REPOSITORY)))
def test_a_lock_has_the_digest_of_every_package_and_no_registry(lock: Path) -> None:
    packages = json.loads(lock.read_text())["packages"]
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert name == "" or package["integrity"].startswith("sha512-"), name


def test_the_lock_has_the_bundler_of_every_platform() -> None:
    packages = json.loads((REPOSITORY / "runtime/package-lock.json").read_text())["packages"]
    for platform in ("linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"):
        assert f"node_modules/@esbuild/{platform}" in packages


def test_nothing_that_npm_made_is_under_version_control() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "*node_modules*", "sidecar/sanfran_sidecar/node", "api/sanfran_api/static"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert tracked.stdout == ""
