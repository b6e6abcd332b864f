"""The pod's life: every state with every event, and the picture in the docs."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from sanfran_controller.states import (
    TRANSITIONS,
    IllegalTransition,
    PodEvent,
    PodState,
    advance,
    diagram,
)

DOCS = Path(__file__).parents[2] / "docs" / "controller.md"


@pytest.mark.parametrize(("state", "event"), list(itertools.product(PodState, PodEvent)))
def test_every_event_in_every_state_is_a_transition_or_refused_by_name(
    state: PodState, event: PodEvent
) -> None:
    target = TRANSITIONS.get((state, event))
    if target is not None:
        assert advance(state, event) is target
        return
    with pytest.raises(IllegalTransition) as caught:
        advance(state, event)
    assert state.value in str(caught.value)
    assert event.value in str(caught.value)


def test_every_state_can_be_reached_and_left() -> None:
    reached = {PodState.STARTING, *TRANSITIONS.values()}
    assert reached == set(PodState)
    assert {state for state, _ in TRANSITIONS} == set(PodState) - {PodState.GONE}


def test_any_pod_can_be_lost_and_none_comes_back() -> None:
    for state in set(PodState) - {PodState.GONE}:
        assert TRANSITIONS[state, PodEvent.LOST] is PodState.GONE
    assert all(state is not PodState.GONE for state, _ in TRANSITIONS)


def test_a_pod_serves_a_second_function_only_after_a_fresh_process() -> None:
    ways_to_generic = {state for (state, _), to in TRANSITIONS.items() if to is PodState.GENERIC}
    assert PodState.ACTIVE not in ways_to_generic
    assert PodState.DRAINING not in ways_to_generic


def test_the_diagram_in_the_docs_is_the_table() -> None:
    assert diagram() in DOCS.read_text()
