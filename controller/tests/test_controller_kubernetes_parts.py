"""The parts of the Kubernetes provider, each alone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import kmock
import pytest
from kubernetes_asyncio.client import ApiClient, Configuration
from sanfran_controller.providers import (
    NameHeld,
    PodNews,
    PodSeen,
    PodsListed,
    PodVanished,
    ProviderError,
    ProviderFull,
)
from sanfran_controller.providers.kubernetes import book, calls, reflector
from sanfran_controller.providers.kubernetes import lease as lease_module
from sanfran_controller.providers.kubernetes.api import ApiError, KubeApi
from sanfran_controller.providers.kubernetes.book import ADDRESS, DURATION, STANDSTILL, LeaseBook
from sanfran_controller.providers.kubernetes.calls import CALLS, EVENTS, LEASES, PODS
from sanfran_controller.providers.kubernetes.events import Events
from sanfran_controller.providers.kubernetes.facts import read
from sanfran_controller.providers.kubernetes.gate import PAUSE_MOST, CreateGate
from sanfran_controller.providers.kubernetes.lease import OwnLease
from sanfran_controller.providers.kubernetes.provider import KubernetesPods
from sanfran_controller.providers.kubernetes.reflector import Changed, Listed, Removed, follow
from sanfran_controller.providers.kubernetes.template import PodTemplate

from controller.tests.cluster import TEMPLATE, ApiServer, Object, running

SELECTOR = "sanfran.dev/release=test"


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as made:
        yield made


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[KubeApi]:
    async with kmock.Server(server) as at:
        async with ApiClient(Configuration(host=str(at.url).rstrip("/"))) as client:
            yield KubeApi(client, "functions")


# -- leases


def lease(name: str, version: int, *, duration: int = 10, renewed: str = "") -> Object:
    spec = {"holderIdentity": f"{name}-1", "leaseDurationSeconds": duration, "renewTime": renewed}
    return {"metadata": {"name": name, "resourceVersion": str(version)}, "spec": spec}


def live(book: LeaseBook, now: float) -> list[str]:
    return [one.name for one in book.live(now)]


@pytest.mark.parametrize("clock", ["1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "nonsense"])
def test_a_lease_runs_from_when_it_was_seen_to_change_whatever_its_holder_s_clock_says(
    clock: str,
) -> None:
    book = LeaseBook("me")
    book.saw(lease("other", 1, renewed=clock), 100.0)
    for now in (104.0, 108.0, 112.0):
        book.saw(lease("me", int(now)), now)
    assert live(book, 109.9) == ["me", "other"]
    book.saw(lease("other", 1, renewed=clock), 109.0)  # listed anew: nothing new
    assert live(book, 110.1) == ["me"]
    book.saw(lease("other", 2, renewed=clock), 115.0)
    assert live(book, 115.0) == ["me", "other"]


def test_nobody_dies_while_ones_own_renewals_do_not_come_back() -> None:
    book = LeaseBook("me")
    book.saw(lease("me", 1), 100.0)
    book.saw(lease("other", 2), 101.0)
    assert live(book, 1000.0) == ["me", "other"]
    # Ten minutes later the API server is back, and this controller is the first to renew.
    book.saw(lease("me", 3), 700.0)
    assert live(book, 700.5) == ["me", "other"]
    for version, now in enumerate((702.0, 704.0, 706.0, 708.0, 710.0, 712.0), 4):
        book.saw(lease("me", version), now)
    assert live(book, 712.0) == ["me"]
    assert STANDSTILL < 10


def test_a_lease_that_was_given_up_is_over_at_once_and_an_empty_one_is_nobody_s() -> None:
    book = LeaseBook("me")
    book.listed([lease("other", 1), {**lease("owner", 2), "spec": {}}], 5.0)
    assert live(book, 6.0) == ["other"]
    book.gone("other")
    assert live(book, 6.0) == []


async def test_a_name_is_held_until_its_lease_has_not_changed_for_as_long_as_it_runs(
    api: KubeApi, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("sanfran_controller.providers.kubernetes.lease.time.monotonic", lambda: now)
    first, second = (OwnLease(api, "c", process, {"labels": {}}) for process in ("p1", "p2"))
    await first.renew("unix:/one")
    with pytest.raises(NameHeld):
        await second.renew("")
    now += 9
    await first.renew("unix:/one")
    now += 9
    with pytest.raises(NameHeld):  # it was renewed in between
        await second.renew("")
    now += 10.1
    await second.renew("unix:/two")
    assert server.objects.get("leases", "c")["spec"]["holderIdentity"] == "p2"
    with pytest.raises(NameHeld):
        await first.renew("unix:/one")
    await second.renew("unix:/two")  # a moment later: not written again
    assert len(server.writes()) == 4


async def test_a_process_in_the_pod_of_its_name_has_the_name_of_the_container_before_it_at_once(
    api: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "c")
    await OwnLease(api, "c", "p1", {}).renew("")
    await OwnLease(api, "c", "p2", {}).renew("")


async def test_a_lease_that_somebody_deletes_is_made_anew(api: KubeApi, server: ApiServer) -> None:
    own = OwnLease(api, "c", "p1", {})
    await own.renew("")
    server.objects.remove("leases", "c")
    with pytest.raises(ProviderError):
        await own.renew("unix:/x")
    await own.renew("unix:/x")
    assert server.objects.get("leases", "c")["spec"]["holderIdentity"] == "p1"


async def test_a_lease_whose_holder_somebody_emptied_stays_this_process_s(
    api: KubeApi, server: ApiServer
) -> None:
    own = OwnLease(api, "c", "p1", {})
    await own.renew("")
    server.objects.change("leases", "c", {"spec": {"holderIdentity": ""}})
    await own.renew("unix:/x")
    assert server.objects.get("leases", "c")["spec"]["holderIdentity"] == "p1"


async def test_a_connection_that_is_dead_does_not_outlast_the_lease(
    api: KubeApi, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = OwnLease(api, "c", "p1", {})
    await own.renew("")
    assert lease_module.RENEW_PATIENCE * 3 < DURATION
    monkeypatch.setattr(lease_module, "RENEW_PATIENCE", 0.2)
    server.held = asyncio.Event()
    async with asyncio.timeout(5):
        with pytest.raises(ProviderError, match="no answer"):
            await own.renew("unix:/x")
    server.held.set()
    monkeypatch.undo()
    await own.renew("unix:/y")  # whether or not the one before was written after all
    assert server.objects.get("leases", "c")["metadata"]["annotations"][ADDRESS] == "unix:/y"


# -- following


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


# -- creating


def test_creates_come_at_a_rate() -> None:
    gate = CreateGate()
    waits = [gate.enter(0.0) for _ in range(150)]
    assert waits[:100] == [0.0] * 100
    assert waits[149] == pytest.approx(1.0)


def test_after_a_refusal_creates_pause_longer_and_longer_and_one_finds_out() -> None:
    gate, now, pauses = CreateGate(), 0.0, []
    for _ in range(9):
        gate.enter(now)
        gate.refused(now, "exceeded quota", full=True)
        began = now
        while True:
            try:
                gate.enter(now)
            except ProviderFull:
                now += 0.1
            else:
                break
        with pytest.raises(ProviderFull):
            gate.enter(now)  # only one
        gate.left()
        pauses.append(now - began)
    assert pauses[:6] == sorted(pauses[:6])
    assert pauses[0] == pytest.approx(0.5, abs=0.11)
    assert pauses[-1] == pytest.approx(PAUSE_MOST, abs=0.2)
    gate.enter(now)
    gate.worked()
    gate.enter(now)


def test_an_api_server_s_retry_after_is_kept() -> None:
    gate = CreateGate()
    gate.enter(0.0)
    gate.refused(0.0, "429", full=False, after=7.0)
    with pytest.raises(ProviderError):
        gate.enter(6.9)
    gate.enter(7.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: Deployment", "is no Pod"),
        ("[", "is no YAML"),
        ("metadata: {}", "metadata.labels: is missing"),
        ("metadata: {labels: {a: b}}", "has no sanfran.dev/release"),
        ("metadata: {labels: {sanfran.dev/release: x}, name: y}", "has a name"),
        ("metadata: {labels: {sanfran.dev/release: x}}", "spec.containers: is missing"),
        (TEMPLATE.replace("sidecar", "other"), "no container named sidecar"),
    ],
)
def test_a_template_of_no_use_is_refused_with_what_would_be(
    text: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"--pod-template: {path}.*{words}"):
        PodTemplate(path)
    with pytest.raises(ValueError, match="cannot be read"):
        PodTemplate(tmp_path / "none.yaml")


async def test_one_reason_is_one_event_however_often_it_comes(
    api: KubeApi, server: ApiServer
) -> None:
    async with Events(api, {"kind": "Lease", "name": "owner"}, {}, "me") as events:
        for number in range(1000):
            events.warn("NoRoom", f"pod {number}")
        await server.objects.changes.until(lambda: server.objects.of.get("events"))
        events.warn("NoRoom", "the last")
        await asyncio.sleep(0.1)
    assert len(server.writes()) == 1
    (event,) = server.objects.of["events"].values()
    assert (event["reason"], event["involvedObject"]["name"]) == ("NoRoom", "owner")


# -- the API server


async def test_calls_that_are_granted_are_the_ones_that_are_made() -> None:
    source = "".join(path.read_text() for path in Path(calls.__file__).parent.glob("*.py"))
    kinds = {"PODS": PODS, "LEASES": LEASES, "EVENTS": EVENTS}
    made: dict[Any, set[str]] = {kind: set() for kind in CALLS}
    for verb, kind in re.findall(r"api\.(\w+)\(\s*(PODS|LEASES|EVENTS)", source):
        made[kinds[kind]].add(verb)
    for kind in re.findall(r"follow\(\s*self\._api,\s*(PODS|LEASES)", source):
        made[kinds[kind]] |= {"list", "watch"}
    assert made == {kind: set(verbs) for kind, verbs in CALLS.items()}


async def test_refusals_name_their_reason_and_an_api_server_that_is_away_is_told(
    api: KubeApi, server: ApiServer
) -> None:
    with pytest.raises(ApiError, match="404 NotFound: pods x not found") as missing:
        await api.get(PODS, "x")
    assert missing.value.status == 404
    async with ApiClient(Configuration(host="http://127.0.0.1:1")) as client:
        with pytest.raises(ApiError, match="does not answer") as away:
            await KubeApi(client, "functions").get(PODS, "x")
    assert away.value.status == 0


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
