"""Holds creates back: a rate, and pauses after refusals. Decides only.

A quota that is used up, an API server that is overloaded (429) or fails: asking again at once would make it worse, and
the pool asks again and again. So one refusal stops all creates for a while, twice as long each time, and then one goes
through to find out. All times are seconds of one monotonic clock.
"""

from __future__ import annotations

from sanfran_controller.providers import NotCreated, ProviderFull

RATE, BURST = 50.0, 100.0
"""Creates per second in the long run, and at once, of one controller: what ten nodes can start."""
PAUSE_FIRST, PAUSE_MOST = 0.5, 30.0


class CreateGate:
    """Asked before each create, and told how it went."""

    def __init__(self) -> None:
        self._tokens, self._counted = BURST, 0.0
        self._refusals = 0
        self._until = 0.0
        self._why = ""
        self._full = False
        self._probing = False

    def enter(self, now: float) -> float:
        """May a create go now?

        Returns:
            Seconds to wait before it is sent: the rate.

        Raises:
            ProviderFull: there was no room a moment ago.
            NotCreated: creates failed a moment ago.
        """
        if self._refusals and (now < self._until or self._probing):
            raise (ProviderFull if self._full else NotCreated)(self._why)
        self._probing = self._refusals > 0
        self._tokens = min(self._tokens + (now - self._counted) * RATE, BURST)
        self._counted = now
        self._tokens -= 1
        return max(-self._tokens / RATE, 0.0)

    def worked(self) -> None:
        """It was created."""
        self._refusals = 0
        self._probing = False

    def refused(self, now: float, why: str, *, full: bool, after: float = 0.0) -> None:
        """It was not.

        Args:
            why: for those that are held back.
            full: there is no room, until something goes.
            after: seconds that the API server asks to wait.
        """
        self._probing = False
        # Those that were under way together fail together, and say nothing new.
        if not self._refusals or now >= self._until:
            self._refusals += 1
        self._why, self._full = why, full
        pause = min(PAUSE_FIRST * 2 ** min(self._refusals - 1, 10), PAUSE_MOST)
        self._until = max(self._until, now + max(pause, after))

    def left(self) -> None:
        """Nobody waits for the answer any more."""
        self._probing = False
