"""Plays a scenario, by the engine's decisions or by naive ones, and scores it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sanfran_controller.load import Loads
from sanfran_controller.scaling import ScalingPolicy
from sanfran_proto.sanfran import v1 as pb

from bench.scenarios.clock import simulate
from bench.scenarios.engine import Engine, Observed
from bench.scenarios.traces import Scenario


class PlainLoads(Loads):
    """Knows no peaks, only what is in flight when a report is made."""

    def peak(self, name: str) -> int:
        """See `Loads`."""
        return self.demand(name)


@dataclass(frozen=True, slots=True)
class Score:
    """A line of the table.

    Args:
        cold: share of the requests whose function had no pod.
        cold_p50, cold_p99: seconds that those waited until their handler began.
        p99: the same of all requests.
        started: pods that were started, beside those that filled the pool at first.
        pods: at once, at most.
        surplus: see `Observed`.
        queue: requests that waited at once, at most.
        changes: see `Observed`.
        lost: requests that got no answer in time.
    """

    requests: int
    cold: float
    cold_p50: float
    cold_p99: float
    p99: float
    started: int
    pods: int
    surplus: float
    queue: int
    changes: int
    lost: int


def play(scenario: Scenario, *, naive: bool = False) -> Score:
    """Plays it from the beginning to the end.

    Args:
        naive: a pool of fixed size, and as many pods as what is in flight needs, without windows.
    """
    seen = observe(scenario, naive=naive)
    return Score(
        requests=seen.requests,
        cold=len(seen.cold) / seen.requests,
        cold_p50=percentile(seen.cold, 0.5),
        cold_p99=percentile(seen.cold, 0.99),
        p99=percentile(seen.waits, 0.99),
        started=seen.started,
        pods=seen.pods,
        surplus=seen.surplus,
        queue=seen.queue,
        changes=seen.changes,
        lost=seen.lost,
    )


def observe(scenario: Scenario, *, naive: bool = False) -> Observed:
    """As `play`, with everything that was seen."""
    limits, policy, loads = scenario.limits, ScalingPolicy(), Loads()
    if naive:
        limits = replace(limits, most=limits.size)
        policy, loads = ScalingPolicy(stable=1.0, panic=1.0), PlainLoads()
    settings = pb.FunctionSettings(
        timeout_ms=60_000,
        concurrency=scenario.concurrency,
        idle_timeout_ms=round(scenario.idle_timeout * 1000),
    )

    async def run() -> Observed:
        engine = Engine(scenario.machine, limits, policy, loads, cpu_bound=scenario.cpu_bound)
        arrivals = list(scenario.arrivals())
        for name in dict.fromkeys(arrival.function for arrival in arrivals):
            engine.deploy(name, settings)
        async with engine.running():
            return await engine.play(arrivals, scenario.seconds)

    return simulate(run())


def percentile(values: list[float], share: float) -> float:
    """By nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0
