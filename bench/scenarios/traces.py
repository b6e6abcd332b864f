"""Scenarios as data: who calls what and when, on which machine. Every one is seeded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from math import cos, pi
from random import Random

from sanfran_controller.pool import PoolLimits

from bench.scenarios.engine import Arrival
from bench.scenarios.pods import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What happens.

    Args:
        arrivals: requests in the order of time.
        seconds: until when is looked on.
        concurrency: of every function.
        idle_timeout: of every function, in seconds.
        cpu_bound: handlers hold their process's event loop.
    """

    name: str
    arrivals: Callable[[], Iterator[Arrival]]
    seconds: float
    concurrency: int = 1
    idle_timeout: float = 30.0
    cpu_bound: bool = False
    machine: Machine = field(default_factory=Machine)
    limits: PoolLimits = field(default_factory=PoolLimits)


def merged(*traces: Iterator[Arrival]) -> Iterator[Arrival]:
    """Several traces as one."""
    yield from sorted((one for trace in traces for one in trace), key=lambda one: one.at)


def wave(
    rate: Callable[[float], float],
    most: float,
    seconds: float,
    handler: float,
    name: Callable[[Random], str],
    seed: int = 1,
) -> Iterator[Arrival]:
    """Requests that come by chance at a rate that changes (thinning of a Poisson process: Lewis and
    Shedler, 1979).

    Args:
        rate: requests/s at a time.
        most: never exceeded by `rate`.
        handler: seconds that each takes on average, exponentially distributed.
        name: chooses the function.
    """
    chance, at = Random(seed), 0.0
    while (at := at + chance.expovariate(most)) < seconds:
        if chance.random() * most < rate(at):
            yield Arrival(at, name(chance), chance.expovariate(1 / handler))


def one(name: str) -> Callable[[Random], str]:
    """Always the same function."""
    return lambda chance: name


def zipf(functions: int, exponent: float) -> Callable[[Random], str]:
    """Function k is called in proportion to 1/k^exponent: few often, most hardly ever."""
    names = [f"f{rank}" for rank in range(1, functions + 1)]
    weights = list(accumulate(1 / rank**exponent for rank in range(1, functions + 1)))
    return lambda chance: chance.choices(names, cum_weights=weights)[0]


def fresh(prefix: str) -> Callable[[Random], str]:
    """Another function each time."""
    count = 0

    def name(chance: Random) -> str:
        nonlocal count
        count += 1
        return f"{prefix}{count}"

    return name


def at_once(prefix: str, functions: int, times: list[float], handler: float) -> Iterator[Arrival]:
    """As many functions as never were called, all in one moment, again and again."""
    for round_, at in enumerate(times):
        for number in range(functions):
            yield Arrival(at, f"{prefix}{round_}-{number}", handler)


def square(period: float, high: int, seconds: float, handler: float) -> Iterator[Arrival]:
    """`high` requests at once, as long as half of each period lasts, then one at a time."""
    at = 0.0
    while at < seconds:
        for _ in range(high if at % period < period / 2 else 1):
            yield Arrival(at, "square", handler * 0.99)
        at += handler


def diurnal() -> Iterator[Arrival]:
    """Day and night in ten minutes: of one busy function, and of others that are new."""

    def day(at: float) -> float:
        return (1 - cos(2 * pi * at / 300)) / 2

    return merged(
        wave(lambda at: 1 + 19 * day(at), 20, 600, 0.2, one("busy"), seed=2),
        wave(lambda at: 3 * day(at), 3, 600, 0.1, fresh("new"), seed=3),
    )


def spike() -> Iterator[Arrival]:
    """Fifty times the usual for twenty seconds."""
    return wave(lambda at: 200 if 30 <= at < 50 else 4, 200, 120, 0.1, one("spiky"), seed=4)


def greedy() -> Iterator[Arrival]:
    """One function could use every pod; others want their first."""
    return merged(
        wave(lambda at: 200.0 if at > 5 else 0.0, 200.0, 60, 0.4, one("greedy"), seed=12),
        wave(lambda at: 1.0 if at > 11 else 0.0, 1.0, 60, 0.1, fresh("other"), seed=5),
    )


SCENARIOS = [
    Scenario(
        name="steady",
        arrivals=lambda: wave(lambda at: 50, 50, 90, 0.1, zipf(20, 0.5)),
        seconds=100,
    ),
    Scenario(name="diurnal", arrivals=diurnal, seconds=610, limits=PoolLimits(size=2)),
    Scenario(name="spike x50", arrivals=spike, seconds=130),
    Scenario(
        name="long tail",
        arrivals=lambda: wave(lambda at: 25, 25, 180, 0.05, zipf(1000, 1.1), seed=6),
        seconds=190,
        concurrency=10,
        idle_timeout=20.0,
    ),
    Scenario(
        name="cpu-bound",
        arrivals=lambda: wave(lambda at: 60 if at > 20 else 5, 60, 60, 0.05, one("cpu"), seed=7),
        seconds=70,
        concurrency=2,
        cpu_bound=True,
    ),
    Scenario(
        name="slow starts",
        arrivals=lambda: wave(lambda at: 3, 3, 240, 0.1, fresh("slow"), seed=8),
        seconds=250,
        idle_timeout=10.0,
        machine=Machine(start=3.0, cores=64),
        limits=PoolLimits(size=4, starts_at_once=64),
    ),
    Scenario(
        name="1 in 5 fails",
        arrivals=lambda: wave(lambda at: 5, 5, 120, 0.1, fresh("new"), seed=9),
        seconds=130,
        idle_timeout=10.0,
        machine=Machine(refuses=5),
    ),
    Scenario(
        name="1 in 5 hangs",
        arrivals=lambda: wave(lambda at: 0.5, 0.5, 180, 0.1, fresh("new"), seed=10),
        seconds=190,
        idle_timeout=10.0,
        machine=Machine(hangs=5),
        limits=PoolLimits(size=2),
    ),
    Scenario(
        name="50 at once",
        arrivals=lambda: at_once("b", 50, [5, 65, 125, 185], 0.1),
        seconds=240,
        idle_timeout=10.0,
        limits=PoolLimits(size=10),
    ),
    Scenario(
        name="50 at once, slow",
        arrivals=lambda: at_once("b", 50, [5, 65, 125, 185], 0.1),
        seconds=240,
        idle_timeout=10.0,
        machine=Machine(start=2.0, cores=64),
        limits=PoolLimits(size=10, starts_at_once=64),
    ),
    Scenario(
        name="one greedy",
        arrivals=greedy,
        seconds=75,
        limits=PoolLimits(size=4, pods=60),
    ),
    Scenario(
        name="at the cap",
        arrivals=lambda: wave(lambda at: 6, 6, 120, 0.1, zipf(300, 0.5), seed=11),
        seconds=130,
        idle_timeout=60.0,
        limits=PoolLimits(size=4, pods=50),
    ),
    Scenario(
        name="up and down",
        arrivals=lambda: square(20, 8, 200, 0.5),
        seconds=210,
    ),
]
"""In the order of the table."""
