"""The router's metrics, written by the supervisor when they are scraped.

Written as text by hand: for 10,000 functions prometheus_client took 2.8 s of CPU and 170 MB, this
0.3 s and 60 MB. The format is Prometheus' text format 0.0.4; a function's name needs no escaping in it.

Runs in the admin server's thread, so it works on copies of the collections that may change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from sanfran_router.tally import Gauges, Totals
from sanfran_router.traffic import COLD_BOUNDS, LATENCY_BOUNDS, Traffic

_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


@dataclass(frozen=True, slots=True)
class Scrape:
    """What there is to tell."""

    totals: Totals
    now: Gauges
    workers: int
    """That serve."""


_Functions = Sequence[tuple[str, Traffic]]


def rendered(scrape: Scrape) -> bytes:
    """All metrics, at this moment, as text."""
    totals, now = scrape.totals, scrape.now
    functions = list(totals.functions.items())
    named = [name for name, _ in functions if name]
    families: tuple[tuple[str, str, str, Iterator[str] | int], ...] = (
        (
            "requests_total",
            "counter",
            "Requests by status class; none: the client left before the answer.",
            _requests(functions),
        ),
        (
            "request_seconds",
            "histogram",
            "From a request's head to its answer's last byte.",
            _latencies(functions),
        ),
        (
            "received_bytes_total",
            "counter",
            "From clients: heads and bodies of requests.",
            _counts(functions, lambda traffic: traffic.received),
        ),
        (
            "sent_bytes_total",
            "counter",
            "To clients: heads and bodies of answers.",
            _counts(functions, lambda traffic: traffic.sent),
        ),
        (
            "in_flight",
            "gauge",
            "Requests at pods.",
            (_one(name, now.in_flight.get(name, 0)) for name in named),
        ),
        (
            "queued",
            "gauge",
            "Requests that wait for a pod.",
            (_one(name, now.queued.get(name, 0)) for name in named),
        ),
        (
            "activations_total",
            "counter",
            "Questions to a controller because no pod served the function.",
            _counts(functions, lambda traffic: traffic.activations),
        ),
        (
            "activation_failures_total",
            "counter",
            "Those refused.",
            _counts(functions, lambda traffic: traffic.activation_failures),
        ),
        (
            "activation_seconds",
            "histogram",
            "From such a question to its answer.",
            _activations(functions),
        ),
        ("retries_total", "counter", "Requests sent again.", _retries(functions)),
        ("connections", "gauge", "Client connections.", now.connections),
        (
            "connections_refused_total",
            "counter",
            "Those over the limit.",
            totals.connections_refused,
        ),
        ("functions", "gauge", "Functions in the table.", now.functions),
        ("workers", "gauge", "Worker processes that serve.", scrape.workers),
        (
            "worker_restarts_total",
            "counter",
            "Worker processes that ended unasked and were replaced.",
            totals.worker_restarts,
        ),
        (
            "access_log_dropped_total",
            "counter",
            "Lines of the access log that stdout did not take in time.",
            totals.access_lines_dropped,
        ),
    )
    pieces = []
    for suffix, kind, text, values in families:
        name = f"sanfran_router_{suffix}"
        lines = (f" {values}",) if isinstance(values, int) else values
        body = "".join([f"{name}{line}\n" for line in lines])
        pieces.append(f"# HELP {name} {text}\n# TYPE {name} {kind}\n{body}".encode())
    return b"".join(pieces)


def _one(name: str, value: int) -> str:
    return f'{{function="{name}"}} {value}'


def _counts(functions: _Functions, of: Callable[[Traffic], int]) -> Iterator[str]:
    for name, traffic in functions:
        yield _one(name, of(traffic))


def _requests(functions: _Functions) -> Iterator[str]:
    for name, traffic in functions:
        # A status beyond the classes is a server error (RFC 9110, section 15).
        by_class = (*traffic.by_class[:5], sum(traffic.by_class[5:]))
        for label, count in zip(_CLASSES, by_class, strict=True):
            if count:
                yield f'{{function="{name}",status="{label}"}} {count}'


def _latencies(functions: _Functions) -> Iterator[str]:
    for name, traffic in functions:
        yield from _histogram(
            name, LATENCY_BOUNDS, traffic.latency_buckets, traffic.latency_seconds
        )


def _activations(functions: _Functions) -> Iterator[str]:
    for name, traffic in functions:
        if traffic.activations:
            yield from _histogram(name, COLD_BOUNDS, traffic.cold_buckets, traffic.cold_seconds)


def _retries(functions: _Functions) -> Iterator[str]:
    for name, traffic in functions:
        for cause, count in list(traffic.retries.items()):
            yield f'{{function="{name}",cause="{cause}"}} {count}'


def _histogram(
    name: str, bounds: Sequence[float], counts: Sequence[int], total: float
) -> Iterator[str]:
    running = list(accumulate(counts))
    for bound, count in zip((*bounds, "+Inf"), running, strict=True):
        yield f'_bucket{{function="{name}",le="{bound}"}} {count}'
    yield f'_count{{function="{name}"}} {running[-1]}'
    yield f'_sum{{function="{name}"}} {total}'
