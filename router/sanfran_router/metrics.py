"""The router's metrics, rendered from plain counters when they are scraped.

Runs in the admin server's thread, so it works on copies of the collections that requests change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sanfran_router.plane import DataPlane
from sanfran_router.traffic import COLD_BOUNDS, LATENCY_BOUNDS

_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


class RouterCollector(Collector):
    """To be registered with a prometheus registry."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def collect(self) -> Iterable[Metric]:
        """All metrics, at this moment."""
        plane = self._plane
        requests = CounterMetricFamily(
            "sanfran_router_requests",
            "Requests by status class; none: the client left before the answer.",
            labels=("function", "status"),
        )
        latency = HistogramMetricFamily(
            "sanfran_router_request_seconds",
            "From a request's head to its answer's last byte.",
            labels=("function",),
        )
        running = GaugeMetricFamily(
            "sanfran_router_in_flight", "Requests at pods.", labels=("function",)
        )
        queued = GaugeMetricFamily(
            "sanfran_router_queued", "Requests that wait for a pod.", labels=("function",)
        )
        cold = CounterMetricFamily(
            "sanfran_router_activations",
            "Questions to a controller because no pod served the function.",
            labels=("function",),
        )
        failed = CounterMetricFamily(
            "sanfran_router_activation_failures", "Those refused.", labels=("function",)
        )
        cold_seconds = HistogramMetricFamily(
            "sanfran_router_activation_seconds",
            "From such a question to its answer.",
            labels=("function",),
        )
        retries = CounterMetricFamily(
            "sanfran_router_retries", "Requests sent again.", labels=("function", "cause")
        )
        _add_classes(requests, "", plane.unrouted.by_class)
        for function in list(plane.table.functions.values()):
            traffic, name = function.traffic, function.name
            if not traffic.requests:
                continue
            _add_classes(requests, name, traffic.by_class)
            latency.add_metric(
                (name,),
                list(_buckets(LATENCY_BOUNDS, traffic.latency_buckets)),
                traffic.latency_seconds,
            )
            running.add_metric((name,), function.in_flight)
            queued.add_metric((name,), len(function.waiting))
            cold.add_metric((name,), traffic.activations)
            failed.add_metric((name,), traffic.activation_failures)
            cold_seconds.add_metric(
                (name,), list(_buckets(COLD_BOUNDS, traffic.cold_buckets)), traffic.cold_seconds
            )
            for cause, count in list(traffic.retries.items()):
                retries.add_metric((name, cause), count)
        yield from (requests, latency, running, queued, cold, failed, cold_seconds, retries)
        yield GaugeMetricFamily(
            "sanfran_router_connections", "Client connections.", value=len(plane.clients)
        )
        yield CounterMetricFamily(
            "sanfran_router_connections_refused", "Those over the limit.", value=plane.refused
        )
        yield GaugeMetricFamily(
            "sanfran_router_functions", "Functions in the table.", value=len(plane.table.functions)
        )


def _add_classes(family: CounterMetricFamily, name: str, by_class: Sequence[int]) -> None:
    # A status beyond the classes is a server error (RFC 9110, section 15).
    for label, count in zip(_CLASSES, (*by_class[:5], sum(by_class[5:])), strict=True):
        if count:
            family.add_metric((name, label), count)


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip(bounds, counts, strict=False):
        total += count
        yield str(bound), total
    yield "+Inf", total + counts[-1]
