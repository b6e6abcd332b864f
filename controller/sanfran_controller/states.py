"""A pod's life, as the controller sees it: every state, every event, one table.

Theory of operation. A pod starts, is warmed and becomes generic. A claim takes it out of the pool
before anything is sent to it, so that nobody else can. Loaded, it serves one function version and no
other. To end that it is fenced first (it refuses new requests), then recycled: the process is
killed and a fresh one makes the pod generic. There is no way back from draining to active: whoever
wants the function again gets another pod, so the fence never has to be taken down.

A pod that a former controller process left behind starts here too, and is found to be active, to load, or
in a state that only recycling resolves.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType


class PodState(Enum):
    """Where a pod stands."""

    STARTING = "starting"
    GENERIC = "generic"
    ACTIVATING = "activating"
    ACTIVE = "active"
    DRAINING = "draining"
    RECYCLING = "recycling"
    GONE = "gone"


class PodEvent(Enum):
    """What happens to a pod."""

    WARMED = "warmed"  # the channel to its sidecar is warm, and a fresh process runs
    FOUND_ACTIVE = "found active"  # left by a former controller process, and still wanted
    FOUND_LOADING = "found loading"  # the same, while it loads
    CLAIMED = "claimed"
    RELEASED = "released"  # the claim was given back before anything was sent
    LOADED = "loaded"
    FENCED = "fenced"  # from the sidecar's answer on it refuses new requests
    RECYCLE = "recycle"  # the order to end the process was given
    RECYCLED = "recycled"
    LOST = "lost"  # crashed, deleted, spent by a failed load, or beyond reach


_S, _E = PodState, PodEvent

TRANSITIONS = MappingProxyType(
    {
        (_S.STARTING, _E.WARMED): _S.GENERIC,
        (_S.STARTING, _E.FOUND_ACTIVE): _S.ACTIVE,
        (_S.STARTING, _E.FOUND_LOADING): _S.ACTIVATING,
        (_S.STARTING, _E.RECYCLE): _S.RECYCLING,
        (_S.GENERIC, _E.CLAIMED): _S.ACTIVATING,
        (_S.ACTIVATING, _E.RELEASED): _S.GENERIC,
        (_S.ACTIVATING, _E.LOADED): _S.ACTIVE,
        # What it runs is not wanted (any more), and no router ever heard of it: no fence needed.
        (_S.ACTIVATING, _E.RECYCLE): _S.RECYCLING,
        (_S.ACTIVE, _E.FENCED): _S.DRAINING,
        (_S.DRAINING, _E.RECYCLE): _S.RECYCLING,
        (_S.RECYCLING, _E.RECYCLED): _S.GENERIC,
        (_S.STARTING, _E.LOST): _S.GONE,
        (_S.GENERIC, _E.LOST): _S.GONE,
        (_S.ACTIVATING, _E.LOST): _S.GONE,
        (_S.ACTIVE, _E.LOST): _S.GONE,
        (_S.DRAINING, _E.LOST): _S.GONE,
        (_S.RECYCLING, _E.LOST): _S.GONE,
    }
)


class IllegalTransition(RuntimeError):
    """An event that cannot happen in this state: an error in this program."""


def advance(state: PodState, event: PodEvent) -> PodState:
    """The state that follows.

    Raises:
        IllegalTransition: the table has no such transition.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"a pod that is {state.value} cannot be {event.value}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram, for the docs (a test keeps them equal)."""
    lines = ["stateDiagram-v2", f"    [*] --> {PodState.STARTING.value}"]
    for (state, event), target in TRANSITIONS.items():
        lines.append(f"    {state.value} --> {target.value}: {event.value}")
    lines.append(f"    {PodState.GONE.value} --> [*]")
    return "\n".join(lines)
