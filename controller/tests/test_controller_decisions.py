"""What was decided is remembered, counted and shown; and every metric is in the docs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY
from sanfran_controller import metrics
from sanfran_controller.decisions import KEPT, Decisions
from sanfran_controller.pool import PoolAction, PoolFacts, PoolReason
from sanfran_controller.scaling import ScaleReason
from sanfran_proto.sanfran import v1 as pb

PAGE = Path(__file__).parents[2] / "docs/controller.md"
FACTS = PoolFacts(idle=0, arriving=1, returning=0, waiting=2, pods=9)


def counted(kind: str, reason: str) -> float:
    labels = {"decision": kind, "reason": reason}
    return REGISTRY.get_sample_value("sanfran_controller_decisions_total", labels) or 0.0


def test_a_decision_is_kept_with_its_reason_and_facts_and_counted() -> None:
    decisions = Decisions(clock=lambda: 5.0)
    before = counted("start", "claims_wait")
    action = PoolAction(3, 0, 0, 4, PoolReason.CLAIMS_WAIT, "2 claims wait")
    decisions.pool(action, FACTS, 0)
    [one] = decisions.latest(10)
    assert (one.at, one.kind, one.reason, one.pods, one.why) == (
        *(5.0, "start", "claims_wait"),
        *(3, "2 claims wait"),
    )
    assert one.facts == "idle 0, starting 1, returning 0, claims 2, pods 9"
    assert counted("start", "claims_wait") - before == 3


def test_the_same_again_within_a_moment_is_one_and_the_newest_come_first() -> None:
    now = 0.0
    decisions = Decisions(clock=lambda: now)
    for function in ("a", "a", "b"):
        decisions.took("scale_up", "demand", 2, why="", facts="", function=function)
        now += 0.4
    decisions.took("start", "claims_wait", 1, why="", facts="")
    assert [(one.function, one.pods) for one in decisions.latest(9)] == [
        ("", 1),
        ("b", 2),
        ("a", 4),
    ]
    assert len(decisions.latest(2)) == 2


def test_many_decisions_about_functions_push_none_about_the_pool_out() -> None:
    decisions = Decisions(clock=lambda: 1.0)
    decisions.took("start", "claims_wait", 1, why="", facts="")
    for number in range(3 * KEPT):
        decisions.took("scale_up", "demand", 1, why="", facts="", function=f"f{number}")
    latest = decisions.latest(10_000)
    assert len(latest) == KEPT + 1
    assert "start" in {one.kind for one in latest}


def test_that_nothing_can_be_done_is_said_once() -> None:
    decisions = Decisions(clock=lambda: 1.0)
    stuck = PoolAction(0, 0, 0, 4, PoolReason.LIMIT, "at the limit of 9 pods")
    for _ in range(5):
        decisions.pool(stuck, FACTS, 0)
    assert [(one.kind, one.reason, one.pods) for one in decisions.latest(9)] == [
        ("hold", "limit", 5)
    ]


def test_every_metric_stands_in_the_page_and_every_one_in_the_page_exists() -> None:
    text = PAGE.read_text()
    names = {
        one._name
        for one in vars(metrics).values()
        if hasattr(one, "_name") and hasattr(one, "_type")
    }
    assert len(names) > 10
    short = {name.removeprefix("sanfran_controller_") for name in names}
    table = text.partition("## Metrics")[2].partition("\n## ")[0]
    told = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    assert told == short


def test_every_reason_stands_in_the_page() -> None:
    text = PAGE.read_text()
    quiet = {PoolReason.AS_WANTED, PoolReason.COOLING}  # then nothing is done
    for reason in ({*PoolReason, *ScaleReason} - quiet) | {"saturated", "home"}:
        assert f"`{reason}`" in text, reason


async def test_the_pool_is_shown_with_its_decisions(world: Any) -> None:
    world.api.put("hello")
    async with world.controller() as router:
        await router.activate("hello")
        await router.report("hello", 3, 1)
        status = await router.status("hello")
        assert (status.in_flight, status.queued, status.calls) == (3, 1, 3)
        assert status.last_cold_ms > 0
        assert status.last_cold_at_ms > 1_600_000_000_000
        async with asyncio.timeout(5):
            while True:
                pool = await router.stub.get_pool(pb.GetPoolRequest(decisions=50))
                if pool.ready == 2:
                    break
        assert (pool.target, pool.size, pool.functions) == (2, 2, 1)
        assert pool.pods["active"] == 1
        assert {(one.kind, one.reason) for one in pool.decisions} >= {("start", "below_target")}
        request = pb.GetStatusesRequest(names=["nobody", "hello"])
        nobody, hello = (await router.stub.get_statuses(request)).functions
        assert (nobody.name, nobody.pods, hello.calls, len(hello.pods)) == ("nobody", [], 3, 1)
