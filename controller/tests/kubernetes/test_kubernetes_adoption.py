"""Controllers on Kubernetes that take over the pods of others and their own from before."""

from __future__ import annotations

import asyncio

from sanfran_common.rpc.balancer import choose_by_key
from sanfran_proto.sanfran import v1 as pb

from controller.tests.kubernetes.conftest import KubeWorld, pool
from controller.tests.simulated import SimPod


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


async def test_a_label_that_another_owner_wrote_meanwhile_is_set_right(world: KubeWorld) -> None:
    world.api.put("hello")
    async with world.kube("one", pool_size=1) as client:
        await client.activate("hello")
        await world.until(lambda: "hello" in world.labels("function"))
        name = world.serving_pod("hello")
        # As if another one had owned it for a moment, which had the pod serve something else.
        before = int(world.pods[name]["metadata"]["annotations"]["sanfran.dev/term"])
        for term, owner, function in ((1, "two", "other"), (2, "one", "other")):
            metadata = {
                "labels": {"sanfran.dev/controller": owner, "sanfran.dev/function": function},
                "annotations": {"sanfran.dev/term": str(before + term)},
            }
            world.objects.change("pods", name, {"metadata": metadata})
        await world.until(lambda: "hello" in world.labels("function"))


async def test_a_pod_that_is_found_before_its_sidecar_listens_is_waited_for(
    world: KubeWorld,
) -> None:
    world.kubelet.listens = False
    world.api.put("hello")
    async with world.kube(pool_size=0, max_pods=1) as client:
        asking = asyncio.create_task(client.activate("hello"))
        await world.full(1)
    await asyncio.wait({asking})  # which its end has refused
    (name,) = world.pods

    async def listen() -> None:
        await asyncio.sleep(1.5)  # as long as a sidecar may take to start
        assert "deletionTimestamp" not in world.pods[name]["metadata"]
        world.kubelet.listens = True

    listening = asyncio.create_task(listen())
    async with world.kube(pool_size=1) as client:  # ready when a pod is
        assert (await pool(client)).ready == 1
        assert list(world.pods) == [name]
    await listening


async def test_a_load_under_way_in_a_rollout_is_gone_on_with_by_the_controller_that_follows(
    world: KubeWorld,
) -> None:
    world.api.put("hello")
    go = asyncio.Event()

    async def wait(pod: SimPod) -> None:
        await go.wait()

    world.host.on_load = wait
    # A full node: the one that follows has no pod of its own.
    world.kubelet.room = 1
    async with world.kube("new", pool_size=0) as following:
        async with world.kube("old", pool_size=0) as leaving:
            ask = pb.ActivateFunctionRequest(name="hello", router="r1", early=True)
            told = await leaving.stub.activate(ask, timeout=5)
            assert told.early
        go.set()
        await following.until(lambda: "hello" in following.routes)
        assert following.routes["hello"].endpoints == told.endpoints
        assert len(world.host.activations) == 1
