"""What is written to a cluster: when pods are created, and by which calls."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.client import ApiClient, Configuration
from sanfran_controller.providers import (
    ProviderError,
    ProviderFull,
)
from sanfran_controller.providers.kubernetes import calls
from sanfran_controller.providers.kubernetes.api import ApiError, KubeApi
from sanfran_controller.providers.kubernetes.calls import CALLS, EVENTS, LEASES, PODS
from sanfran_controller.providers.kubernetes.events import Events
from sanfran_controller.providers.kubernetes.gate import PAUSE_MOST, CreateGate
from sanfran_controller.providers.kubernetes.template import PodTemplate

from controller.tests.cluster import TEMPLATE, ApiServer

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
