"""The chart: its own test, upgrades and rollbacks under load, and what an uninstall leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.kubectl import Namespace, until
from tests.e2e.release import Release, says
from tests.e2e.visitor import Visitor

KEPT = ("persistentvolumeclaim/",)
"""What an uninstall leaves on purpose: the functions."""


def changed(value: str) -> dict[str, Any]:
    """Values that make every pod of a release another one."""
    pods = {"podAnnotations": {"sanfran.dev/e2e": value}}
    annotated = {"metadata": {"annotations": {"sanfran.dev/e2e": value}}}
    return {
        "router": pods,
        "controller": pods,
        "api": pods,
        "functions": {"podTemplate": annotated},
    }


def test_helm_test_passes(release: Release) -> None:
    assert "Succeeded" in release.helm("test")


def test_an_upgrade_and_a_rollback_under_load_fail_no_request(
    release: Release, visitor: Visitor, figures: list[str]
) -> None:
    release.deploy("steady", says(1), "--min-scale", "1")
    for what, step in (
        ("upgrade", lambda: release.upgrade(changed("upgraded"))),
        ("rollback", lambda: release.helm("rollback", "--wait")),
    ):
        with visitor.load("steady") as load:
            step()
        load.assert_flawless()
        figures.append(
            f"{what} of every service: {load.answers} requests, none failed, slowest {load.slowest}"
        )
        release.deploy(f"after-{what}", says("fresh"))
        assert visitor.get(f"after-{what}").ok == "fresh"


def test_new_certificates_under_load_fail_no_request(release: Release, visitor: Visitor) -> None:
    release.deploy("trusted", says(1), "--min-scale", "1")
    with visitor.load("trusted") as load:
        release.upgrade({"tls": {"chart": {"rotation": "again"}}})
        release.deploy("after-rotation", says("fresh"))
        until(lambda: visitor.get("after-rotation").status == 200, "a cold call")
    load.assert_flawless()


def test_two_releases_share_a_namespace_and_the_second_leaves_nothing_behind(
    release: Release, visitor: Visitor, namespace: Namespace, tmp_path: Path
) -> None:
    release.deploy("twin", says("first"))
    before = namespace.everything()
    other = Release(namespace, "other", release.images, tmp_path)
    try:
        other.upgrade()
        other.deploy("twin", says("second"))
        assert visitor.get("twin").ok == "first"
        assert visitor.get("twin", address=other.router).ok == "second"
        assert other.pods("twin")
    finally:  # the room is for the tests that follow
        other.helm("uninstall", "--wait")

    def left() -> set[str]:
        found = namespace.everything() - before
        return {one for one in found if other.fullname in one and not one.startswith(KEPT)}

    until(lambda: not left(), "nothing is left of the release", 120)
    assert visitor.get("twin").ok == "first"
