"""How long to wait before a service that died is started again. Pure."""

from __future__ import annotations

FIRST_SECONDS = 0.2
LONGEST_SECONDS = 2.0
"""More would break the promise that everything is back within 5 seconds of a crash."""
STEADY_SECONDS = 20.0
"""Up for so long, a service counts as healthy: its next death is a first one again."""


class Backoff:
    """At once after a first death, then twice as long each time."""

    def __init__(self) -> None:
        self._deaths = 0

    def delay_after(self, up_seconds: float) -> float:
        """Seconds to wait, now that it died.

        Args:
            up_seconds: how long it had been up.
        """
        if up_seconds >= STEADY_SECONDS:
            self._deaths = 0
        self._deaths += 1
        if self._deaths == 1:
            return 0.0
        doublings = min(self._deaths - 2, 30)  # no overflow in a service that never comes back
        return min(FIRST_SECONDS * 2.0**doublings, LONGEST_SECONDS)
