"""What the controller knows of one pod."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sanfran_proto.sanfran import v1 as pb

from sanfran_controller.states import PodState


@dataclass(frozen=True, slots=True)
class Activation:
    """One pod's time as one function version.

    Args:
        id: nobody can guess it; routers send it with each request.
        function: the version that is loaded.
    """

    id: str
    function: pb.FunctionVersion


class Pod:
    """A pod of this controller.

    Args:
        name: its name.
        asked_at: when its start was asked for (monotonic seconds); None when it was found.
    """

    __slots__ = (
        "activation",
        "address",
        "answered",
        "asked_at",
        "attendant",
        "brief",
        "crashed",
        "exposed",
        "log_readers",
        "name",
        "outdated",
        "resolved",
        "sidecar",
        "state",
        "term",
        "waits",
        "warm",
    )

    def __init__(self, name: str, asked_at: float | None) -> None:
        self.name = name
        self.asked_at = asked_at
        self.state = PodState.STARTING
        self.resolved = asyncio.Event()  # it is no longer STARTING
        self.term: int | None = None  # under which it is ours; None: not told of it yet

        self.outdated = False  # made from another template than new ones are
        self.waits = ""  # what keeps it from becoming ready, if that is not usual

        # Of its sidecar, once that is called.
        self.sidecar: pb.SidecarStub | None = None
        self.warm = False  # the channel to it is
        self.attendant: asyncio.Task[None] | None = None
        self.address = ""  # of the runtime's HTTP server; new with every process

        # Of its activation.
        self.activation: Activation | None = None
        self.exposed = False  # a router was told of it before it had loaded
        self.answered = asyncio.Event()  # what became of its load is known
        self.crashed = False  # it is gone because of what the code in it did
        self.log_readers: set[asyncio.Task[None]] = set()
        self.brief = True  # nothing ran in it when it was fenced: it will be back in moments

    @property
    def calls(self) -> pb.SidecarStub:
        """Its sidecar. Only for pods that have been generic or active."""
        assert self.sidecar is not None, f"{self.name} has no channel yet"
        return self.sidecar


def same_version(one: pb.FunctionVersion, other: pb.FunctionVersion) -> bool:
    """Whether two are the same version of the same function.

    A function that was deleted and created again counts from 1 again, hence the time.
    """
    return (
        one.version == other.version
        and one.digest == other.digest
        and one.created_at_ms == other.created_at_ms
    )
