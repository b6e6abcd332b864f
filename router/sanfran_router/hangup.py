"""Notices clients that leave while nothing is read from them.

A connection whose reading is paused, for flow control, shows its end only behind what was not read.
The kernel knows it earlier: one epoll of our own asks for nothing but that, and wakes the event
loop. Without epoll (not Linux) such a client is noticed when it is read from again.
"""

from __future__ import annotations

import asyncio
import select
import sys
from typing import Protocol


class Watched(Protocol):
    """A connection."""

    def on_hangup(self) -> None: ...


class HangupWatch:
    """To be started in a running event loop, and stopped at the end."""

    def __init__(self) -> None:
        self._watched: dict[int, Watched] = {}
        self._poll: select.epoll | None = None

    def start(self) -> None:
        """From here on, what is added is watched."""
        if sys.platform == "linux":
            self._poll = select.epoll()
            asyncio.get_running_loop().add_reader(self._poll.fileno(), self._look)

    def stop(self) -> None:
        """Forgets all."""
        if self._poll is not None:
            asyncio.get_running_loop().remove_reader(self._poll.fileno())
            self._poll.close()
            self._poll = None
        self._watched.clear()

    def add(self, fd: int, connection: Watched) -> None:
        """Its `on_hangup` is called, once, when the other side has ended or broken it off."""
        if self._poll is not None:
            self._watched[fd] = connection
            self._poll.register(fd, select.EPOLLRDHUP | select.EPOLLONESHOT)

    def remove(self, fd: int) -> None:
        """No more; to be called before the socket is closed."""
        if self._poll is not None and self._watched.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _look(self) -> None:
        assert self._poll is not None
        for fd, _ in self._poll.poll(0):
            watched = self._watched.get(fd)
            if watched is not None:
                watched.on_hangup()
