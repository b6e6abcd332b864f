"""What is counted, on its way from the workers to a scrape."""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from sanfran_router.metrics import Scrape, rendered
from sanfran_router.tally import NAMES_KEPT, SLICE, Gauges, Totals, told
from sanfran_router.traffic import Traffic

World = Any
FUNCTIONS = 10_000


def counted(requests: int) -> Traffic:
    traffic = Traffic()
    traffic.requests = requests
    traffic.by_class[2] = requests
    traffic.latency_buckets[3] = requests
    traffic.latency_seconds = requests / 2
    traffic.received, traffic.sent = 100, 200
    traffic.retried("stale")
    return traffic


def test_counts_that_were_taken_are_added_once_and_load_reports_miss_none() -> None:
    worker, total = counted(5), Traffic()
    worker.reported = 3  # of the five, a load report has told three
    total.add(worker.take())
    assert worker.requests - worker.reported == 2
    assert not worker.touched
    worker.requests += 1
    worker.retried("died")
    assert worker.touched
    total.add(worker.take())
    assert worker.requests - worker.reported == 3
    assert (total.requests, total.by_class[2], total.latency_buckets[3]) == (6, 5, 5)
    assert (total.latency_seconds, total.received, total.sent) == (2.5, 100, 200)
    assert total.retries == {"stale": 1, "died": 1}


def test_counts_of_a_worker_with_newer_code_add_up_as_far_as_they_are_known() -> None:
    total = counted(1)
    total.add({**counted(2).take(), "latency_buckets": [1, 2], "unheard_of": 7})
    assert (total.requests, total.by_class[2], total.latency_buckets[3]) == (3, 3, 1)


async def test_requests_are_served_between_the_slices_of_10_000_functions(world: World) -> None:
    await world.serving()
    for number in range(FUNCTIONS):
        world.plane.table.function(f"f{number}").traffic.add(counted(1).take())
    client = await world.client()
    served = 0

    async def ask() -> None:
        nonlocal served
        while True:
            client.get()
            await client.answer()
            served += 1

    totals = Totals()
    asking = asyncio.create_task(ask())
    between = []
    async for rows in told(world.plane):
        assert len(rows) <= SLICE
        totals.add(rows, Gauges())
        between.append(served)
    asking.cancel()
    await asyncio.wait([asking])
    assert len(totals.functions) >= FUNCTIONS
    assert len(between) >= FUNCTIONS / SLICE
    # One request takes a few turns of the event loop; there were two hundred.
    assert between[-1] > 10


def test_totals_keep_the_functions_that_had_requests_last() -> None:
    totals = Totals()
    for number in range(NAMES_KEPT):
        totals.add([[f"f{number}", counted(1).take(), 0, 0]], Gauges())
    totals.add([["f0", counted(1).take(), 0, 0]], Gauges())
    totals.add([["fresh", counted(1).take(), 0, 0]], Gauges())
    assert len(totals.functions) == NAMES_KEPT
    assert totals.functions["f0"].requests == 2
    assert "f1" not in totals.functions


def test_gauges_of_workers_add_up_but_all_know_the_same_functions() -> None:
    now = Gauges()
    for running in (2, 3):
        gauges = Gauges(connections=10, functions=7)
        Totals().add([["hello", None, running, 1]], gauges)
        now.add(gauges)
    assert (now.in_flight, now.queued) == ({"hello": 5}, {"hello": 2})
    assert (now.connections, now.functions) == (20, 7)


def test_a_scrape_has_every_series_of_a_function() -> None:
    totals = Totals()
    traffic = counted(4)
    traffic.activations, traffic.cold_seconds = 1, 0.25
    traffic.cold_buckets[0] = 1
    gauges = Gauges()
    totals.add([["hello", traffic.take(), 2, 1]], gauges)
    text = rendered(Scrape(totals, gauges, 1)).decode()
    told = {
        (one.name, *sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }
    assert told["sanfran_router_requests_total", ("function", "hello"), ("status", "2xx")] == 4
    for line in (
        'sanfran_router_requests_total{function="hello",status="2xx"} 4',
        'sanfran_router_request_seconds_bucket{function="hello",le="0.005"} 0',
        'sanfran_router_request_seconds_bucket{function="hello",le="0.01"} 4',
        'sanfran_router_request_seconds_sum{function="hello"} 2.0',
        'sanfran_router_in_flight{function="hello"} 2',
        'sanfran_router_queued{function="hello"} 1',
        'sanfran_router_activations_total{function="hello"} 1',
        'sanfran_router_activation_failures_total{function="hello"} 0',
        'sanfran_router_activation_seconds_sum{function="hello"} 0.25',
        'sanfran_router_retries_total{function="hello",cause="stale"} 1',
        'sanfran_router_received_bytes_total{function="hello"} 100',
        'sanfran_router_sent_bytes_total{function="hello"} 200',
        "sanfran_router_workers 1",
        "sanfran_router_worker_restarts_total 0",
        "sanfran_router_access_log_dropped_total 0",
        "sanfran_router_connections_refused_total 0",
    ):
        assert line in text, line
