"""Leases of controllers: whose pods may be taken, and who has a name."""

from __future__ import annotations

import asyncio

import pytest
from sanfran_controller.providers import (
    NameHeld,
    ProviderError,
)
from sanfran_controller.providers.kubernetes import lease as lease_module
from sanfran_controller.providers.kubernetes.api import KubeApi
from sanfran_controller.providers.kubernetes.book import ADDRESS, DURATION, STANDSTILL, LeaseBook
from sanfran_controller.providers.kubernetes.lease import OwnLease

from controller.tests.cluster import ApiServer, Object


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
