"""Whether a client is read from: not while there is any reason against it.

What it sends then stays in its socket, and slows it down. That it leaves is noticed all the same.
"""

from __future__ import annotations

import asyncio
from typing import Final

from sanfran_router.hangup import HangupWatch, Watched

HELD: Final = 1
"""The pod has not taken the request."""
PUSHED_BACK: Final = 2
"""The pod reads slowly."""
AHEAD: Final = 4
"""The next requests wait for this one."""
UNREAD: Final = 8
"""The client does not read its answers."""


class Intake:
    """The reasons of one connection.

    Args:
        connection: is told when its client leaves meanwhile.
    """

    __slots__ = ("_connection", "_fd", "_hangups", "_transport", "reasons")

    def __init__(
        self, connection: Watched, transport: asyncio.Transport, hangups: HangupWatch
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._hangups = hangups
        self._fd = -1
        self.reasons = 0

    def pause(self, reason: int) -> None:
        """Reads nothing more, from now on."""
        before, self.reasons = self.reasons, self.reasons | reason
        if not before and not self._transport.is_closing():
            self._transport.pause_reading()
            self._fd = self._transport.get_extra_info("socket").fileno()
            self._hangups.add(self._fd, self._connection)

    def resume(self, reasons: int) -> None:
        """Reads on, unless there are other reasons."""
        before, self.reasons = self.reasons, self.reasons & ~reasons
        if before and not self.reasons:
            self.unwatch()
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def unwatch(self) -> None:
        """The connection ends."""
        if self._fd >= 0:
            self._hangups.remove(self._fd)
            self._fd = -1
