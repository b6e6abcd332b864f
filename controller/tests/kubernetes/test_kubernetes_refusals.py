"""The controller on Kubernetes: creates that are refused, slow or without room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp.web
import kmock
import pytest
from sanfran_controller import main

from controller.tests.conftest import Client
from controller.tests.kubernetes.conftest import KubeWorld, decided, pool

PODS = "post /api/v1/namespaces/functions/pods"
QUOTA = (
    'pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=5, limited: pods=5'
)


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


async def test_a_controller_without_room_for_a_pod_gets_ready_and_says_why_it_has_none(
    world: KubeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(main.FIRST_POD, "kubernetes", 1.0)
    world.kubelet.room = 0
    async with world.kube() as client:
        assert (await pool(client)).ready == 0
        await decided(client, "Insufficient memory")
