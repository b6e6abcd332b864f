"""The controller on Kubernetes: real client, real gRPC, an API server and a kubelet in memory."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp.web
import kmock
import pytest
from sanfran_common.rpc.balancer import choose_by_key
from sanfran_controller import main
from sanfran_controller.providers.kubernetes import connect
from sanfran_proto.sanfran import v1 as pb

from controller.tests.cluster import (
    TEMPLATE,
    ApiServer,
    Kubelet,
    Object,
    kubeconfig,
    running,
)
from controller.tests.conftest import Client, World
from controller.tests.simulated import Phase, SimHost

PODS = "post /api/v1/namespaces/functions/pods"
CLIENT = connect.ApiClient  # imported here: on a busy machine that takes longer than a test may
QUOTA = (
    'pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=5, limited: pods=5'
)


class KubeWorld(World):
    """A cluster, an api service, and controllers on demand."""

    def __init__(self, folder: Path, server: ApiServer, kubelet: Kubelet) -> None:
        super().__init__(folder)
        self.server, self.kubelet = server, kubelet
        self.objects = server.objects
        self.host = kubelet.host
        (folder / "pod.yaml").write_text(TEMPLATE)

    @asynccontextmanager
    async def kube(self, name: str = "controller", **settings: Any) -> AsyncIterator[Client]:
        """A controller on the cluster."""
        fixed = {
            "provider": "kubernetes",
            "namespace": "functions",
            "pod_template": str(self.folder / "pod.yaml"),
            "name": name,
            "rpc_listen": f"unix:{self.folder}/{name}",
        }
        async with self.controller(**{**fixed, **settings}) as client:
            yield client

    @property
    def pods(self) -> dict[str, Object]:
        """As the API server has them."""
        return self.objects.of.get("pods", {})

    def labels(self, key: str) -> list[str]:
        """Of all pods, sorted."""
        return sorted(
            pod["metadata"]["labels"].get(f"sanfran.dev/{key}", "") for pod in self.pods.values()
        )

    def asked(self, what: str) -> list[str]:
        """Writes that begin so, in the mock's record."""
        return [one for one in self.server.writes() if one.startswith(what)]

    def serving_pod(self, name: str) -> str:
        """The only one that serves a function."""
        (pod,) = self.host.serving(name)
        return pod.name

    async def until(self, true: Any) -> Any:
        """Something changed in the API server."""
        return await self.objects.changes.until(true)

    async def full(self, pods: int = 2) -> None:
        """So many run."""
        await self.until(
            lambda: sum("podIP" in p.get("status", {}) for p in self.pods.values()) >= pods
        )


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubeWorld]:
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    async with ApiServer() as server, kmock.Server(server) as at:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(folder, str(at.url))))
        async with Kubelet(server.objects, SimHost(folder)) as kubelet:
            made = KubeWorld(folder, server, kubelet)
            await made.api.start()
            yield made
            await made.api.stop()
    shutil.rmtree(folder)


async def pool(client: Client) -> pb.PoolStatus:
    """What `sanfran pool` shows."""
    return await client.stub.get_pool(pb.GetPoolRequest(decisions=50))


async def decided(client: Client, words: str) -> None:
    """Until a decision of the pool says these words."""
    async with asyncio.timeout(8):
        while not any(words in one.why for one in (await pool(client)).decisions):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def without_pods(client: Client, name: str) -> None:
    """Until routers are told that nobody serves the function."""
    await client.until(lambda: name in client.routes and not client.routes[name].endpoints)


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


async def test_a_quota_that_is_used_up_is_told_and_not_tried_again_and_again(
    world: KubeWorld,
) -> None:
    status = {"kind": "Status", "reason": "Forbidden", "message": QUOTA}
    refusal = world.server[PODS] << kmock.Response(status=403, payload=status)
    async with _unfilled(world) as client:
        await decided(client, "exceeded quota: small")
        await asyncio.sleep(1)
        assert len(world.asked("POST pods")) <= 4
    events = world.objects.of["events"]
    assert [one["reason"] for one in events.values()] == ["QuotaExceeded"]
    del refusal


@asynccontextmanager
async def _unfilled(world: KubeWorld, **settings: Any) -> AsyncIterator[Client]:
    """A controller that is ready with what there is; then its pool grows to two."""
    async with world.kube(pool_size=0, **settings) as client:
        world.api.put("wanted")
        asking = asyncio.create_task(client.activate("wanted"))
        try:
            yield client
        finally:
            asking.cancel()
            await asyncio.wait({asking})


@pytest.mark.parametrize(
    ("status", "headers"),
    [(429, {"Retry-After": "1"}), (500, {}), (503, {})],
    ids=["429 with Retry-After", "500", "503"],
)
async def test_an_api_server_that_refuses_creates_is_left_alone_and_then_used_again(
    status: int, headers: dict[str, str], world: KubeWorld
) -> None:
    times: list[float] = []

    async def refuse() -> aiohttp.web.Response | None:
        times.append(time.monotonic())
        if len(times) > 2:
            return None
        return aiohttp.web.json_response({"message": "not now"}, status=status, headers=headers)

    world.server.on_create = refuse
    async with _unfilled(world, activation_timeout=15.0) as client:
        await client.until(
            lambda: client.routes.get("wanted") and client.routes["wanted"].endpoints
        )
    if headers:  # the two that were under way together failed together
        assert times[2] - times[1] >= 0.95
    assert len(times) <= 4
    (event,) = world.objects.of["events"].values()
    assert event["reason"] == "CreateFailed"
    # What was refused, or held back, is not there to be deleted; only of a 5xx that is not known.
    assert len(world.asked("DELETE pods")) <= (0 if status == 429 else 2)


async def test_pods_for_which_there_is_no_room_wait_and_no_more_are_made(world: KubeWorld) -> None:
    world.kubelet.room = 1
    async with world.kube(pool_size=0) as client:
        for number in range(3):
            world.api.put(f"f{number}")
        assert (await client.activate("f0")).endpoints
        asking = asyncio.create_task(client.activate("f1"))
        await decided(client, "Insufficient memory")
        assert len(world.pods) == 2
        assert {one["reason"] for one in world.objects.of["events"].values()} == {"NoRoom"}
        world.kubelet.room = 5
        assert (await asking).endpoints


async def test_pods_that_never_get_ready_are_given_up_at_a_pace_that_falls(
    world: KubeWorld,
) -> None:
    world.kubelet.starts = False
    async with _unfilled(world, start_timeout=0.2, starts_at_once=2) as client:
        await asyncio.sleep(3)
        made = len(world.asked("POST pods"))
        assert 2 <= made <= 14
        await decided(client, "in a row: not ready after 0.2 s")
        world.kubelet.starts = True
        await client.until(
            lambda: client.routes.get("wanted") and client.routes["wanted"].endpoints
        )


async def test_slow_creates_make_no_more_pods_than_are_needed(world: KubeWorld) -> None:
    async def slowly() -> None:
        await asyncio.sleep(0.5)

    world.server.on_create = slowly
    async with world.kube(pool_size=3):
        await world.full(3)
    assert len(world.asked("POST pods")) == 3


async def test_pods_of_a_controller_that_stops_are_adopted_with_what_they_run(
    world: KubeWorld,
) -> None:
    world.api.put("hello")
    async with world.kube("one") as first:
        endpoint = (await first.activate("hello")).endpoints[0]
        name = world.serving_pod("hello")
        second = world.kube("two")
        client = await second.__aenter__()
    try:
        await client.until(
            lambda: (
                "hello" in client.routes
                and [one.activation_id for one in client.routes["hello"].endpoints]
                == [endpoint.activation_id]
            )
        )
        meta = world.pods[name]["metadata"]
        assert meta["annotations"]["sanfran.dev/term"] == "2"
        assert meta["labels"]["sanfran.dev/controller"] == "two"
        assert set(world.labels("controller")) == {"two"}
    finally:
        await second.__aexit__(None, None, None)


async def test_a_controller_that_comes_back_takes_over_its_own_pods_under_a_new_term(
    world: KubeWorld,
) -> None:
    world.api.put("hello")
    async with world.kube() as client:
        before = (await client.activate("hello")).endpoints[0]
        name = world.serving_pod("hello")
        await world.full(3)
        names = set(world.pods)
    async with world.kube() as client:
        after = (await client.activate("hello")).endpoints[0]
        assert after.activation_id == before.activation_id
        assert world.pods[name]["metadata"]["annotations"]["sanfran.dev/term"] == "2"
        assert set(world.pods) == names


async def test_pods_of_a_controller_whose_lease_is_not_renewed_are_adopted_whatever_its_clock_says(
    world: KubeWorld,
) -> None:
    world.objects.create(
        "leases",
        {
            "metadata": {"name": "dead", "labels": {"sanfran.dev/release": "test"}},
            "spec": {
                "holderIdentity": "dead-1",
                "leaseDurationSeconds": 1,
                "renewTime": "2099-01-01T00:00:00.000000Z",
            },
        },
    )
    meta = {
        "name": "test-pod-orphan",
        "labels": {"sanfran.dev/release": "test", "sanfran.dev/controller": "dead"},
        "annotations": {"sanfran.dev/term": "7", "sanfran.dev/process": "dead-1"},
    }
    world.objects.create("pods", {"metadata": meta, "spec": {}})
    async with world.kube():
        await world.until(lambda: set(world.labels("controller")) == {"controller"})
        notes = world.pods["test-pod-orphan"]["metadata"]["annotations"]
        assert notes["sanfran.dev/term"] == "8"


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
    monkeypatch.setattr("sanfran_controller.providers.kubernetes.provider.FORCE_AFTER", 1.0)
    monkeypatch.setattr("sanfran_controller.providers.kubernetes.provider.END_PATIENCE", 0.3)
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


async def test_a_function_that_keeps_a_pod_gets_no_second_one_while_pods_of_the_dead_are_adopted(
    world: KubeWorld,
) -> None:
    world.api.put("hello", min_scale=1)
    async with world.kube("one") as client:
        await client.until(lambda: client.routes.get("hello") and client.routes["hello"].endpoints)
    two = f"unix:{world.folder}/two"
    home = next(
        address
        for address in (f"127.0.0.1:{port}" for port in range(1, 100))
        if choose_by_key("hello", {address, two}) == address
    )
    meta = {
        "name": "one",
        "labels": {"sanfran.dev/release": "test"},
        "annotations": {"sanfran.dev/address": home},
    }
    lease = {
        "metadata": meta,
        "spec": {"holderIdentity": "one-1", "leaseDurationSeconds": 2},
    }
    world.objects.create("leases", lease)  # it seems to live for a while after its death
    activations = len(world.host.activations)
    async with world.kube("two") as client:
        world.server.held = asyncio.Event()
        await asyncio.sleep(3.5)  # the lease has run out, and adopting takes its time
        world.server.held.set()
        await client.until(lambda: client.routes.get("hello") and client.routes["hello"].endpoints)
        assert len(world.host.activations) == activations


async def test_a_controller_without_room_for_a_pod_gets_ready_and_says_why_it_has_none(
    world: KubeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(main.FIRST_POD, "kubernetes", 1.0)
    world.kubelet.room = 0
    async with world.kube() as client:
        assert (await pool(client)).ready == 0
        await decided(client, "Insufficient memory")
