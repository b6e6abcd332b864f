"""The router's metrics, rendered by the supervisor when they are scraped.

Runs in the admin server's thread, so it works on copies of the collections that may change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sanfran_router.tally import Gauges, Totals
from sanfran_router.traffic import COLD_BOUNDS, LATENCY_BOUNDS, Traffic

_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
_COUNTERS = (
    (
        "activations",
        "Questions to a controller because no pod served the function.",
        "activations",
    ),
    ("activation_failures", "Those refused.", "activation_failures"),
    ("received_bytes", "From clients: heads and bodies of requests.", "received"),
    ("sent_bytes", "To clients: heads and bodies of answers.", "sent"),
)
"""Of each function: name, text, field of its `Traffic`."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """What there is to render."""

    totals: Totals
    now: Gauges
    workers: int
    """That serve."""


class RouterCollector(Collector):
    """To be registered with a prometheus registry.

    Args:
        scrape: asks the workers; called in the admin server's thread.
    """

    def __init__(self, scrape: Callable[[], Scrape]) -> None:
        self._scrape = scrape

    def describe(self) -> Iterable[Metric]:
        """Nothing: else registering would collect."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics, at this moment; one family at a time, as 10,000 functions make big ones."""
        scrape = self._scrape()
        totals, now = scrape.totals, scrape.now
        functions = list(totals.functions.items())
        yield _requests(functions)
        yield _latency(functions)
        yield _activation_latency(functions)
        yield _retries(functions)
        for name, text, field in _COUNTERS:
            counter = CounterMetricFamily(f"sanfran_router_{name}", text, labels=("function",))
            for function, traffic in functions:
                counter.add_metric((function,), getattr(traffic, field))
            yield counter
        names = [name for name, _ in functions if name]
        yield _per_function("in_flight", "Requests at pods.", names, now.in_flight)
        yield _per_function("queued", "Requests that wait for a pod.", names, now.queued)
        for name, text, value in (
            ("connections", "Client connections.", now.connections),
            ("functions", "Functions in the table.", now.functions),
            ("workers", "Worker processes that serve.", scrape.workers),
        ):
            yield GaugeMetricFamily(f"sanfran_router_{name}", text, value=value)
        for name, text, value in (
            ("connections_refused", "Those over the limit.", totals.connections_refused),
            (
                "access_log_dropped",
                "Lines of the access log that stdout did not take in time.",
                totals.access_lines_dropped,
            ),
            (
                "worker_restarts",
                "Worker processes that ended unasked and were replaced.",
                totals.worker_restarts,
            ),
        ):
            yield CounterMetricFamily(f"sanfran_router_{name}", text, value=value)


_Functions = Sequence[tuple[str, Traffic]]


def _requests(functions: _Functions) -> Metric:
    family = CounterMetricFamily(
        "sanfran_router_requests",
        "Requests by status class; none: the client left before the answer.",
        labels=("function", "status"),
    )
    for name, traffic in functions:
        # A status beyond the classes is a server error (RFC 9110, section 15).
        by_class = (*traffic.by_class[:5], sum(traffic.by_class[5:]))
        for label, count in zip(_CLASSES, by_class, strict=True):
            if count:
                family.add_metric((name, label), count)
    return family


def _latency(functions: _Functions) -> Metric:
    family = HistogramMetricFamily(
        "sanfran_router_request_seconds",
        "From a request's head to its answer's last byte.",
        labels=("function",),
    )
    for name, traffic in functions:
        buckets = list(_buckets(LATENCY_BOUNDS, traffic.latency_buckets))
        family.add_metric((name,), buckets, traffic.latency_seconds)
    return family


def _activation_latency(functions: _Functions) -> Metric:
    family = HistogramMetricFamily(
        "sanfran_router_activation_seconds",
        "From such a question to its answer.",
        labels=("function",),
    )
    for name, traffic in functions:
        if traffic.activations:
            buckets = list(_buckets(COLD_BOUNDS, traffic.cold_buckets))
            family.add_metric((name,), buckets, traffic.cold_seconds)
    return family


def _retries(functions: _Functions) -> Metric:
    family = CounterMetricFamily(
        "sanfran_router_retries", "Requests sent again.", labels=("function", "cause")
    )
    for name, traffic in functions:
        for cause, count in list(traffic.retries.items()):
            family.add_metric((name, cause), count)
    return family


def _per_function(
    name: str, text: str, functions: Sequence[str], values: Mapping[str, int]
) -> Metric:
    family = GaugeMetricFamily(f"sanfran_router_{name}", text, labels=("function",))
    for function in functions:
        family.add_metric((function,), values.get(function, 0))
    return family


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip(bounds, counts, strict=False):
        total += count
        yield str(bound), total
    yield "+Inf", total + counts[-1]
