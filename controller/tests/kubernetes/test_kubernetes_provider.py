"""The provider alone: whose pods it adopts and deletes, and what it tells of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from sanfran_controller.providers import (
    PodNews,
    PodSeen,
    PodsListed,
    PodVanished,
    ProviderError,
)
from sanfran_controller.providers.kubernetes import book
from sanfran_controller.providers.kubernetes.api import KubeApi
from sanfran_controller.providers.kubernetes.provider import KubernetesPods
from sanfran_controller.providers.kubernetes.template import PodTemplate

from controller.tests.cluster import TEMPLATE, ApiServer


def kubernetes(api: KubeApi, folder: Path, owner: str) -> KubernetesPods:
    path = folder / "pod.yaml"
    path.write_text(TEMPLATE)
    return KubernetesPods(
        api,
        PodTemplate(path),
        owner=owner,
        process=f"{owner}-1",
        references=[],
        about={"kind": "Lease", "name": owner},
    )


@asynccontextmanager
async def provider(api: KubeApi, folder: Path, owner: str) -> AsyncIterator[KubernetesPods]:
    """One that knows which pods there are."""
    pods = kubernetes(api, folder, owner)
    async with pods, aclosing(pods.watch()) as news, asyncio.timeout(10):
        async for one in news:
            if isinstance(one, PodsListed):
                break
        yield pods


async def test_of_two_that_adopt_a_pod_one_gets_it_also_when_its_status_changes_meanwhile(
    api: KubeApi, server: ApiServer, tmp_path: Path
) -> None:
    labels = {"sanfran.dev/release": "test", "sanfran.dev/controller": "dead"}
    meta = {"name": "p", "labels": labels, "annotations": {"sanfran.dev/term": "4"}}
    server.objects.create("pods", {"metadata": meta})
    seen = PodSeen("p", "dead", "", False, 4)
    async with provider(api, tmp_path, "one") as one, provider(api, tmp_path, "two") as two:
        server.silent = True
        server.objects.change("pods", "p", {"status": {"phase": "Running"}})
        await one.adopt(seen)  # 409, and the same term still
        with pytest.raises(ProviderError, match="changed hands"):
            await two.adopt(seen)
        now = server.objects.get("pods", "p")["metadata"]
        assert (
            now["labels"]["sanfran.dev/controller"],
            now["annotations"]["sanfran.dev/term"],
        ) == (
            "one",
            "5",
        )
        await two.delete("p")  # which it never owned
        assert "p" in server.objects.of["pods"]


async def test_a_controller_that_stood_still_deletes_no_pod_that_changed_hands(
    api: KubeApi, server: ApiServer, tmp_path: Path
) -> None:
    labels = {"sanfran.dev/release": "test", "sanfran.dev/controller": "one"}
    notes = {"sanfran.dev/term": "4", "sanfran.dev/process": "one-1"}
    server.objects.create(
        "pods", {"metadata": {"name": "p", "labels": labels, "annotations": notes}}
    )
    async with provider(api, tmp_path, "one") as one:
        server.silent = True
        change = {
            "labels": {"sanfran.dev/controller": "two"},
            "annotations": {"sanfran.dev/term": "5"},
        }
        server.objects.change("pods", "p", {"metadata": change})
        await one.delete("p")
        assert "p" in server.objects.of["pods"]


async def until(
    news: AsyncIterator[PodNews], kind: type[PodVanished] | type[PodsListed]
) -> list[PodNews]:
    """All up to the first of that kind."""
    heard = [await anext(news)]
    while not isinstance(heard[-1], kind):
        heard.append(await anext(news))
    return heard


async def test_a_pod_that_got_the_name_of_another_between_two_lists_is_not_that_one(
    api: KubeApi, server: ApiServer, tmp_path: Path
) -> None:
    labels = {"sanfran.dev/release": "test", "sanfran.dev/controller": "one"}
    server.objects.create("pods", {"metadata": {"name": "p", "labels": labels}})
    pods = kubernetes(api, tmp_path, "two")
    async with pods, aclosing(pods.watch()) as news, asyncio.timeout(10):
        await until(news, PodsListed)
        server.silent = True
        server.objects.remove("pods", "p")
        server.objects.create("pods", {"metadata": {"name": "p", "labels": labels}})
        server.objects.forget()
        server.cut()
        assert PodVanished("p") in await until(news, PodsListed)


async def test_what_a_pod_was_before_it_was_taken_over_is_not_told_after_it(
    api: KubeApi, server: ApiServer, tmp_path: Path
) -> None:
    labels = {"sanfran.dev/release": "test", "sanfran.dev/controller": "one"}
    notes = {"sanfran.dev/term": "4", "sanfran.dev/process": "one-0"}
    server.objects.create(
        "pods", {"metadata": {"name": "p", "labels": labels, "annotations": notes}}
    )
    server.held = asyncio.Event()
    pods = kubernetes(api, tmp_path, "one")
    async with pods, aclosing(pods.watch()) as news, asyncio.timeout(10):
        heard = asyncio.ensure_future(until(news, PodVanished))
        while not server.writes():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        server.objects.change("pods", "p", {"status": {"podIP": "10.0.0.1"}})
        server.held.set()
        while server.objects.get("pods", "p")["metadata"]["annotations"]["sanfran.dev/term"] != "5":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        server.objects.change("pods", "p", {"status": {"podIP": "10.0.0.2"}})
        server.objects.remove("pods", "p")
        told = [
            *(pod for one in await heard if isinstance(one, PodsListed) for pod in one.pods),
            *(one for one in await heard if isinstance(one, PodSeen)),
        ]
        assert {(pod.owner, pod.term) for pod in told} == {("one", 5)}


async def test_a_watch_of_leases_that_says_nothing_is_given_up_sooner_than_one_of_pods(
    api: KubeApi, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "SILENCE", 0.3)
    server.silent = True

    def watches(kind: str) -> int:
        asked = [one.url.path for one in server._requests if "watch" in one.params]
        return sum(path.endswith(kind) for path in asked)

    pods = kubernetes(api, tmp_path, "one")
    async with pods, aclosing(pods.watch()) as news, asyncio.timeout(10):
        await until(news, PodsListed)
        coming = asyncio.ensure_future(anext(news))
        while watches("/leases") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert watches("/pods") <= 1
        coming.cancel()
        await asyncio.wait({coming})
