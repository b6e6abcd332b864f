"""The controller on Kubernetes: what its pods run, how they are lost and how replaced."""

from __future__ import annotations

import asyncio

import pytest

from controller.tests.cluster import (
    TEMPLATE,
    Object,
    running,
)
from controller.tests.kubernetes.conftest import KubeWorld, without_pods
from controller.tests.simulated import Phase, SimHost


async def test_functions_get_pods_of_the_template_and_labels_say_what_they_run(
    world: KubeWorld,
) -> None:
    world.api.put("hello")
    world.objects.create("leases", {"metadata": {"name": "owner"}, "spec": {}})
    async with world.kube(pod_owner="owner") as client:
        assert len((await client.activate("hello")).endpoints) == 1
        await world.until(lambda: "hello" in world.labels("function"))
        assert "1" in world.labels("version")
        assert set(world.labels("controller")) == {"controller"}
        owner = world.objects.get("leases", "owner")["metadata"]["uid"]
        made = [*world.pods.values(), world.objects.get("leases", "controller")]
        for one in made:
            (reference,) = one["metadata"]["ownerReferences"]
            assert (reference["uid"], reference["controller"]) == (owner, True)
        for name, pod in world.pods.items():
            assert name.startswith("test-pod-")
            assert pod["metadata"]["annotations"]["sanfran.dev/term"] == "1"
            assert len(pod["spec"]["containers"]) == 2
        world.api.delete("hello")
        await world.until(lambda: set(world.labels("function")) == {""})
    assert "controller" not in world.objects.of["leases"]  # given up at the stop


async def test_an_activation_waits_for_no_write_to_the_api_server(world: KubeWorld) -> None:
    for number in range(4):
        world.api.put(f"f{number}")
    async with world.kube(pool_size=4) as client:
        await world.full(4)
        world.server.held = asyncio.Event()
        for number in range(4):
            async with asyncio.timeout(5):
                assert (await client.activate(f"f{number}")).endpoints
            written = f"PATCH pods/{world.serving_pod(f'f{number}')}"
            assert written not in world.server.writes()
        world.server.held.set()
        await world.until(lambda: len(set(world.labels("function"))) >= 5)
        patched = world.asked("PATCH pods")
        assert len(patched) == len(set(patched))  # one for each pod, after its activation


async def test_a_pod_deleted_by_hand_is_out_of_the_routes_before_it_has_ended(
    world: KubeWorld,
) -> None:
    world.api.put("hello")
    async with world.kube() as client:
        await client.activate("hello")
        name = world.serving_pod("hello")
        world.kubelet.end_delay = 1.0
        world.objects.delete("pods", name, {})
        await without_pods(client, "hello")
        assert name in world.pods
        await world.until(lambda: name not in world.pods)
        assert f"DELETE pods/{name}" not in world.server.writes()


ENDED = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}


@pytest.mark.parametrize(
    "sidecar",
    [
        {"state": ENDED},
        {"restartCount": 1, "lastState": ENDED},
        {"containerID": "another"},
    ],
    ids=["out of memory", "restarted", "another container"],
)
@pytest.mark.parametrize("active", [True, False], ids=["active", "generic"])
async def test_a_pod_whose_container_ended_or_was_restarted_is_lost_and_deleted(
    sidecar: Object, active: bool, world: KubeWorld
) -> None:
    world.api.put("hello")
    async with world.kube(pool_size=1) as client:
        await world.full(1)
        if active:
            await client.activate("hello")
        (name,) = [world.serving_pod("hello")] if active else world.pods
        ip = world.pods[name]["status"]["podIP"]
        world.kubelet.status(name, running(ip, name, **sidecar))
        if active:
            await without_pods(client, "hello")
        await world.until(lambda: name not in world.pods)
        assert f"DELETE pods/{name}" in world.server.writes()
        assert (await client.activate("hello")).endpoints


async def test_an_evicted_and_a_failed_pod_are_lost_and_deleted(world: KubeWorld) -> None:
    world.api.put("hello")
    async with world.kube() as client:
        for status in (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."},
            {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "Drain"}]},
        ):
            await client.activate("hello")
            name = world.serving_pod("hello")
            world.kubelet.status(name, status)
            await without_pods(client, "hello")
            await world.until(lambda name=name: name not in world.pods)


async def test_another_pod_of_the_same_name_is_not_the_one_that_was(world: KubeWorld) -> None:
    world.api.put("hello")
    async with world.kube() as client:
        await client.activate("hello")
        name = world.serving_pod("hello")
        uid = world.pods[name]["metadata"]["uid"]
        world.server.silent = True  # both events come together
        again = {"metadata": dict(world.pods[name]["metadata"]), "spec": {}, "status": {}}
        world.objects.remove("pods", name)
        world.objects.create("pods", again)
        world.server.silent = False
        await without_pods(client, "hello")
        assert uid != world.pods.get(name, again)["metadata"]["uid"]


async def test_watches_that_are_cut_go_on_and_forgotten_ones_list_anew(world: KubeWorld) -> None:
    world.api.put("hello")
    async with world.kube() as client:
        await client.activate("hello")
        world.server.cut()
        assert (await client.activate("hello")).endpoints
        name = world.serving_pod("hello")
        lists = len([one for one in world.server._requests if "limit" in one.params])
        world.server.silent = True
        world.objects.remove("pods", name)
        world.objects.forget()
        world.server.silent = False
        world.server.cut()
        await without_pods(client, "hello")
        assert len([one for one in world.server._requests if "limit" in one.params]) > lists


@pytest.mark.parametrize("provider", ["local", "kubernetes"])
async def test_with_replace_a_pod_runs_one_function_and_is_deleted(
    provider: str, world: KubeWorld
) -> None:
    world.api.put("hello")
    host = SimHost(world.folder) if provider == "local" else world.host
    if provider == "local":
        await host.start()
    opened = (
        world.controller(recycle="replace", pods=host.address)
        if provider == "local"
        else world.kube(recycle="replace")
    )
    async with opened as client:
        await client.activate("hello")
        (pod,) = host.serving("hello")
        world.api.delete("hello")
        await host.until(lambda: pod.name not in host.pods)
        assert pod.phase is not Phase.GENERIC
        assert pod.address_number == 1  # no second process
    if provider == "local":
        await host.stop()


async def test_pods_of_a_former_template_are_replaced_one_after_another_unless_the_new_one_fails(
    world: KubeWorld,
) -> None:
    world.api.put("hello")
    async with world.kube(pool_size=3) as client:
        await client.activate("hello")
        await world.full(4)
        serving = world.serving_pod("hello")
    before = set(world.pods)
    (world.folder / "pod.yaml").write_text(TEMPLATE.replace("sanfran-runtime", "newer"))
    world.kubelet.starts = False  # the new image is no good
    async with world.kube(pool_size=3, start_timeout=0.3) as client:
        await world.until(lambda: len(world.asked("POST pods")) >= 8)
        assert len(before & set(world.pods)) == 3
        world.kubelet.starts = True
        await world.until(lambda: before & set(world.pods) == {serving})
        world.api.delete("hello")
        await world.until(lambda: not before & set(world.pods))


async def test_a_pod_whose_node_does_not_answer_is_removed_without_it_after_a_time(
    world: KubeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanfran_controller.providers.kubernetes.endings.FORCE_AFTER", 1.0)
    monkeypatch.setattr("sanfran_controller.providers.kubernetes.endings.END_PATIENCE", 0.3)
    world.api.put("hello")
    async with world.kube() as client:
        await client.activate("hello")
        name = world.serving_pod("hello")
        world.kubelet.end_delay = 60.0
        world.kubelet.status(name, {"phase": "Unknown", "message": "the node is away"})
        await without_pods(client, "hello")
        await world.until(lambda: name not in world.pods)
        assert world.server.writes().count(f"DELETE pods/{name}") == 2
        world.kubelet.end_delay = 0.0
