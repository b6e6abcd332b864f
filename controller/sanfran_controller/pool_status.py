"""The pool as this controller tells it to people."""

from __future__ import annotations

import time

from sanfran_proto.sanfran import v1 as pb

from sanfran_controller.decisions import Decision
from sanfran_controller.fleet import Fleet
from sanfran_controller.states import PodState


def pool_status(controller: str, fleet: Fleet, functions: int, decisions: int) -> pb.PoolStatus:
    """How the pool stands, and what was decided lately.

    Args:
        controller: the id of this process.
        functions: that have pods.
        decisions: how many of the latest, newest first.
    """
    pool, facts, now = fleet.pool, fleet.facts(), time.monotonic()
    return pb.PoolStatus(
        controller=controller,
        target=pool.target(now),
        size=pool.limits.size,
        most=pool.limits.most,
        max_pods=pool.limits.pods,
        claims_per_second=pool.rate(now),
        start_seconds=pool.start_time,
        ready=facts.idle,
        starting=facts.arriving,
        overdue=facts.overdue,
        returning=facts.returning,
        waiting=facts.waiting,
        pods={
            state.value: fleet.stock.count(state)
            for state in PodState
            if state is not PodState.GONE
        },
        functions=functions,
        decisions=[_told(one) for one in fleet.decisions.latest(decisions)],
    )


def _told(decision: Decision) -> pb.Decision:
    return pb.Decision(
        time_ms=round(decision.at * 1000),
        kind=decision.kind,
        reason=decision.reason,
        pods=decision.pods,
        function=decision.function,
        why=decision.why,
        facts=decision.facts,
    )
