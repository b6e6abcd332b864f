"""The end-to-end suite: a release on the cluster that KUBECONFIG points to. `make e2e` runs it.

It makes a namespace of its own and deletes it in the end; nothing else in the cluster is touched. It needs kubectl
and helm, and images that the cluster can get; see docs/kubernetes.md.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.kubectl import Namespace
from tests.e2e.release import Images, Release
from tests.e2e.visitor import Visitor

# Only on demand: nobody wants `make test` to install into whatever cluster is configured.
collect_ignore_glob = [] if os.environ.get("SANFRAN_E2E") else ["test_*.py"]

FIGURES: list[str] = []
"""What was measured, shown at the end."""


def _missing() -> str:
    """Why the suite cannot run; empty when it can."""
    if not os.environ.get("KUBECONFIG"):
        return (
            "no cluster: set KUBECONFIG to the file of one, kubectl config view --raw shows yours"
        )
    if shutil.which("kubectl") is None:
        return "no kubectl on the PATH"
    asked = subprocess.run(
        ["kubectl", "version", "--request-timeout=10s"], capture_output=True, text=True
    )
    if asked.returncode != 0:
        return f"no cluster answers at {os.environ['KUBECONFIG']}: {asked.stderr.strip()}"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(600))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("measured")
        for line in FIGURES:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def a_cluster() -> None:
    missing = _missing()
    if missing:
        pytest.exit(f"end-to-end tests skipped: {missing}", returncode=0)  # told once


@pytest.fixture(scope="session")
def figures() -> list[str]:
    """Takes what was measured."""
    return FIGURES


@pytest.fixture(scope="session")
def namespace() -> Iterator[Namespace]:
    one = Namespace(f"sanfran-e2e-{secrets.token_hex(3)}")
    one.create()
    try:
        yield one
    finally:
        if not os.environ.get("E2E_KEEP"):
            one.delete()


@pytest.fixture(scope="session")
def release(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    one = Release(namespace, "sanfran", Images.of_environment(), tmp_path_factory.mktemp("release"))
    one.upgrade()
    yield one
    if not os.environ.get("E2E_KEEP"):
        one.helm("uninstall", "--wait")


@pytest.fixture(scope="session")
def visitor(release: Release) -> Visitor:
    images = release.images
    router = release.namespace.get("deployments", release.selector("router"))
    [container] = router[0]["spec"]["template"]["spec"]["containers"]
    one = Visitor(release.namespace, container["image"], images.pull_policy, release.router)
    one.start()
    return one
