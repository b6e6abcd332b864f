"""What may happen to pods, while clients go on calling."""

from __future__ import annotations

import time

import pytest

from tests.e2e.kubectl import names, until
from tests.e2e.release import Release, says
from tests.e2e.visitor import Visitor

SELF = "module.exports = (req, res) => { if (req.method === 'POST') %s; else res.send('1'); };"


@pytest.fixture(scope="module", autouse=True)
def warm(release: Release) -> str:
    """A function that all of these tests call."""
    release.deploy("warm", says(1), "--min-scale", "1")
    return "warm"


def test_function_pods_deleted_by_hand_under_load_cost_no_request(
    release: Release, visitor: Visitor, figures: list[str]
) -> None:
    with visitor.load("warm") as load:
        for _ in range(3):
            [pod] = names(until(lambda: release.pods("warm"), "a pod of the function"))
            release.namespace.kubectl("delete", "pod", pod)
    load.assert_flawless()
    figures.append(f"3 deletions of the serving pod: {load.answers} requests, none failed")


def test_a_function_pod_deleted_without_grace_costs_no_get(
    release: Release, visitor: Visitor
) -> None:
    with visitor.load("warm", methods=("GET",)) as load:
        for _ in range(3):
            [pod] = names(until(lambda: release.pods("warm"), "a pod of the function"))
            release.namespace.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
            time.sleep(1)
    load.assert_flawless()


def test_a_node_process_that_is_killed_costs_its_own_request_only(
    release: Release, visitor: Visitor
) -> None:
    release.deploy("suicidal", SELF % "process.kill(process.pid, 'SIGKILL')")
    assert visitor.get("suicidal").ok == "1"
    pods = names(release.pods())
    with visitor.load("warm") as load:
        died = visitor.calls(("POST", "/fn/suicidal", ""), ("GET", "/fn/suicidal"))
    assert [one.status for one in died] == [502, 200]
    load.assert_flawless()
    after = {pod["metadata"]["name"]: pod for pod in release.pods()}
    # The pod may have been replaced, or have recycled its process; the kubelet has restarted nothing.
    assert pods & set(after)
    for pod in after.values():
        containers = pod["status"].get("containerStatuses", [])  # none yet in a pod that waits
        assert all(one["restartCount"] == 0 for one in containers)


def test_a_function_that_takes_too_much_memory_dies_alone(
    release: Release, visitor: Visitor
) -> None:
    eat = "(() => { const all = []; for (;;) all.push(Buffer.alloc(8 << 20, 1)); })()"
    release.deploy("glutton", SELF % eat, "--timeout", "30")
    assert visitor.get("glutton").ok == "1"
    with visitor.load("warm") as load:
        died = visitor.calls(("POST", "/fn/glutton", ""), ("GET", "/fn/glutton"))
    assert [one.status for one in died] == [502, 200]
    load.assert_flawless()
    for _ in range(3):
        assert visitor.get("glutton").ok == "1"


@pytest.mark.parametrize("component", ["controller", "api", "router"])
def test_pods_of_a_service_that_are_replaced_under_load_cost_no_request(
    release: Release, visitor: Visitor, component: str, figures: list[str]
) -> None:
    with visitor.load("warm") as load:
        began = time.monotonic()
        if component == "router":  # all at once would leave nobody to answer
            deployment = f"deployment/{release.fullname}-router"
            release.namespace.kubectl("rollout", "restart", deployment)
            release.namespace.kubectl("rollout", "status", deployment, timeout=300)
        else:
            release.restart(component)
        took = time.monotonic() - began
    load.assert_flawless()
    figures.append(
        f"{component} replaced in {took:.0f} s: {load.answers} requests of a warm function, none "
        f"failed, slowest {load.slowest}"
    )
    fresh = f"after-{component}"
    release.deploy(fresh, says("fresh"))
    assert visitor.get(fresh).ok == "fresh"
    assert "warm" in release.cli("list")


def test_controllers_that_are_killed_lose_no_warm_function(
    release: Release, visitor: Visitor, figures: list[str]
) -> None:
    with visitor.load("warm") as load:
        selector = release.selector("controller")
        release.namespace.kubectl(
            *("delete", "pods", "--selector", selector, "--grace-period=0", "--force")
        )
        began = time.monotonic()
        release.deploy("after-death", says("fresh"))
        until(lambda: visitor.get("after-death").status == 200, "a cold call after the death")
        figures.append(
            f"controllers killed: cold calls again after {time.monotonic() - began:.1f} s"
        )
    load.assert_flawless()
    alive = names(release.namespace.pods(selector))

    def holders() -> set[str]:
        leases = release.namespace.get("leases")
        return names([one for one in leases if one["spec"].get("holderIdentity")])

    until(lambda: holders() == alive, "only controllers that live hold leases")
