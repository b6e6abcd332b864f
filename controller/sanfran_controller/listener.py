"""What the fleet needs of those who use its pods."""

from __future__ import annotations

from typing import Protocol

from sanfran_proto.sanfran import v1 as pb

from sanfran_controller.pods import Activation, Pod


class FleetListener(Protocol):
    """Whoever uses the pods."""

    async def found(self, pod: Pod, activation: Activation) -> bool:
        """A pod that a former controller process left active: True to keep it (its `activation` and
        state are set by then), False to have it recycled."""

    async def found_loading(self, pod: Pod, activation: Activation) -> bool:
        """A pod that a former controller process left while it loads: True to go on with that (its `activation`
        and state are set by then), False when it loads what is not wanted."""

    def lost(self, pod: Pod) -> None:
        """A pod with an activation is gone."""

    def said(self, activation: Activation, words: list[pb.LogLine]) -> None:
        """The last log lines of an activation that is over."""

    def reclaim(self, count: int, from_busy: int) -> int:
        """No further pod may be started: ends activations, `count` at most, and returns how many. As
        many as `from_busy` may have requests: see `reclaiming`."""
