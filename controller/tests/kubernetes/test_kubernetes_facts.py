"""What is seen of a cluster: lists and watches, and what a pod's object says."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from sanfran_controller.providers.kubernetes import reflector
from sanfran_controller.providers.kubernetes.api import KubeApi
from sanfran_controller.providers.kubernetes.calls import PODS
from sanfran_controller.providers.kubernetes.facts import read
from sanfran_controller.providers.kubernetes.reflector import Changed, Listed, Removed, follow

from controller.tests.cluster import ApiServer, Object, running

SELECTOR = "sanfran.dev/release=test"


def thing(name: str) -> Object:
    return {"metadata": {"name": name, "labels": {"sanfran.dev/release": "test"}}}


async def test_a_watch_that_says_nothing_is_given_up_and_goes_on_where_it_was(
    api: KubeApi, server: ApiServer
) -> None:
    server.objects.create("pods", thing("a"))
    async with asyncio.timeout(10), aclosing(follow(api, PODS, SELECTOR, silence=0.3)) as changes:
        assert isinstance(await anext(changes), Listed)
        server.silent = True
        await asyncio.sleep(0.1)
        server.objects.create("pods", thing("b"))
        coming = asyncio.ensure_future(anext(changes))
        while len([one for one in server._requests if "watch" in one.params]) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        server.silent = False
        change = await coming
    assert isinstance(change, Changed)
    assert change.object["metadata"]["name"] == "b"
    assert len([one for one in server._requests if "limit" in one.params]) == 1


async def test_long_lists_come_in_pages(api: KubeApi, server: ApiServer) -> None:
    server.page = 3
    for number in range(8):
        server.objects.create("pods", thing(f"p{number}"))
    found, version = await api.list_all(PODS, SELECTOR)
    assert [one["metadata"]["name"] for one in found] == [f"p{number}" for number in range(8)]
    assert version == str(server.objects.version)


async def test_bookmarks_spare_a_list_after_a_time_of_quiet(
    api: KubeApi, server: ApiServer
) -> None:
    server.bookmark_every = 0.05
    async with asyncio.timeout(10), aclosing(follow(api, PODS, SELECTOR)) as changes:
        await anext(changes)
        coming = asyncio.ensure_future(anext(changes))
        server.objects.create("leases", thing("another kind"))
        await asyncio.sleep(0.3)
        server.objects.forget()  # what the first list had is too old now
        server.cut()
        server.objects.create("pods", thing("a"))
        assert isinstance(await coming, Changed)


async def test_an_api_server_that_is_away_is_asked_less_and_less_and_what_went_is_noticed(
    api: KubeApi, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "AGAIN_MOST", 0.4)
    server.objects.create("pods", thing("a"))
    async with asyncio.timeout(10), aclosing(follow(api, PODS, SELECTOR)) as changes:
        await anext(changes)
        server.away = True
        coming = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.1)
        server.cut()
        asked = len(server._requests)
        await asyncio.sleep(1.0)
        assert 2 <= len(server._requests) - asked <= 8
        server.objects.remove("pods", "a")
        server.away = False
        change = await coming
    assert isinstance(change, Removed)


# -- pods as they are told


BASE = {"metadata": {"name": "p", "uid": "u", "resourceVersion": "1"}}


@pytest.mark.parametrize(
    ("status", "lost"),
    [
        ({}, ""),
        ({"phase": "Pending"}, ""),
        (running("10.0.0.1", "p"), ""),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
            "Evicted: low on memory",
        ),
        ({"phase": "Unknown"}, "Unknown: "),
        ({"reason": "NodeLost"}, "NodeLost: "),
        (
            {"containerStatuses": [{"name": "runtime", "state": {"terminated": {"exitCode": 1}}}]},
            "container runtime ended: unknown (exit code 1)",
        ),
        (
            {
                "containerStatuses": [
                    {
                        "name": "sidecar",
                        "restartCount": 1,
                        "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
                    }
                ]
            },
            "container sidecar was restarted: OOMKilled (exit code 137)",
        ),
        (
            {
                "containerStatuses": [
                    {"name": "x", "state": {"waiting": {"reason": "ErrImagePull"}}}
                ]
            },
            "",
        ),
    ],
)
def test_a_pod_is_lost_at_the_first_sign(status: Object, lost: str) -> None:
    assert read({**BASE, "status": status}).lost == lost


def test_a_pod_that_was_lost_stays_so_until_it_is_another_one() -> None:
    ended = {"containerStatuses": [{"name": "x", "state": {"terminated": {"exitCode": 0}}}]}
    lost = read({**BASE, "status": ended})
    assert read({**BASE, "status": running("10.0.0.1", "p")}, lost).lost == lost.lost
    other = {"metadata": {**BASE["metadata"], "uid": "another"}, "status": {}}
    assert read(other, lost).lost == ""


def test_what_keeps_a_pod_waiting_is_told() -> None:
    waiting = {"reason": "ErrImagePull", "message": "no such image"}
    status = {"containerStatuses": [{"name": "runtime", "state": {"waiting": waiting}}]}
    assert (
        read({**BASE, "status": status}).waits == "container runtime: ErrImagePull: no such image"
    )
