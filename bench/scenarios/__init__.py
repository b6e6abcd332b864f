"""The controller's decisions in simulated time, beside naive ones: no Node, no sockets, no waiting.

Played through the real pool, scaling, fleet and activation of the controller, and the router's own queues:
see bench/scenarios/engine.py.
"""

import time

from bench.scenarios.play import Score, play
from bench.scenarios.traces import SCENARIOS

QUICK = 3
HEADS = (
    f"  {'':<18}{'':<9}{'cold':>6} {'cold p50':>9} {'cold p99':>9} {'all p99':>9}"
    f" {'started':>8} {'pods':>5} {'surplus':>8} {'queue':>6} {'scaled':>6} {'lost':>5}"
)


def line(name: str, who: str, score: Score) -> str:
    """One line of the table."""
    return (
        f"  {name:<18}{who:<9}{score.cold:>6.1%} {_ms(score.cold_p50)} {_ms(score.cold_p99)} {_ms(score.p99)}"
        f" {score.started:>8} {score.pods:>5} {score.surplus:>8.0f} {score.queue:>6}"
        f" {score.changes:>6} {score.lost:>5}"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:>6.0f} ms"


def report(*, quick: bool) -> None:
    """Plays and prints them."""
    began = time.process_time()
    print("Scenarios in simulated time: the engine's decisions, and naive ones (a pool of fixed")
    print("size; as many pods as what is in flight needs, without windows)")
    print(HEADS)
    for scenario in SCENARIOS[:QUICK] if quick else SCENARIOS:
        print(line(scenario.name, "SanFran", play(scenario)))
        print(line("", "naive", play(scenario, naive=True)), flush=True)
    print("  cold: share of requests that found no pod of their function; started: pods, beside")
    print("  the first pool; surplus: pod-seconds beyond the pool's size and beyond what requests")
    print("  needed; scaled: changes up or down; lost: not answered within 10 s")
    print(f"  {time.process_time() - began:.0f} s of CPU for all of it")
