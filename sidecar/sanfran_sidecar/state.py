"""The life of a pod as a table. No I/O: who fires an event does what belongs to it.

Theory of operation: a pod is born STARTING and becomes GENERIC when its Node process has warmed
itself. ACTIVATE claims it for one function version; when no code reached the process because the
bundle could not be had, it is generic still. From ACTIVE the only way back leads over DRAINING and
RECYCLING, which replaces the process: a V8 heap never serves two functions. END may come at any
moment (crash, failed load, deletion) and is final.
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Where a pod stands. The names are those of `PodPhase` in sidecar.proto."""

    STARTING = "starting"
    GENERIC = "generic"
    ACTIVATING = "activating"
    ACTIVE = "active"
    DRAINING = "draining"
    RECYCLING = "recycling"
    GONE = "gone"


class Event(Enum):
    """What may happen to a pod."""

    READY = "ready"
    ACTIVATE = "activate"
    BUNDLE_FAILED = "bundle_failed"
    LOADED = "loaded"
    DRAIN = "drain"
    RECYCLE = "recycle"
    END = "end"


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.STARTING, Event.READY): Phase.GENERIC,
    (Phase.GENERIC, Event.ACTIVATE): Phase.ACTIVATING,
    (Phase.ACTIVATING, Event.BUNDLE_FAILED): Phase.GENERIC,
    (Phase.ACTIVATING, Event.LOADED): Phase.ACTIVE,
    (Phase.ACTIVE, Event.DRAIN): Phase.DRAINING,
    (Phase.DRAINING, Event.RECYCLE): Phase.RECYCLING,
    (Phase.RECYCLING, Event.READY): Phase.GENERIC,
    **{(phase, Event.END): Phase.GONE for phase in Phase if phase is not Phase.GONE},
}


class IllegalTransition(Exception):
    """An event that the phase does not know: a mistake in the engine."""


def advance(phase: Phase, event: Event) -> Phase:
    """The phase after the event.

    Raises:
        IllegalTransition: the table has no such row.
    """
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise IllegalTransition(f"{event.value} while {phase.value}") from None
