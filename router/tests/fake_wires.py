"""The router's real protocols on transports that are only queues: thousands of runs in a second.

Nothing here takes time: a run goes on until no side has anything left to do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from itertools import count, pairwise
from typing import Any, cast

import pytest
from sanfran_router import errors
from sanfran_router import request as request_module
from sanfran_router.activation import Activator
from sanfran_router.authorization import Authorizer, api_asker
from sanfran_router.client import ClientConnection
from sanfran_router.config import RouterConfig
from sanfran_router.errors import Problem
from sanfran_router.exchange import Exchange
from sanfran_router.function import Endpoint, EndpointFacts, RouteFacts
from sanfran_router.plane import DataPlane
from sanfran_router.table import Table
from sanfran_router.upstream import UpstreamConnection
from sanfran_router.wheel import TimerWheel

from router.tests.wire import Message, PodSide, answer


class NoSocket:
    def fileno(self) -> int:
        return -1

    def setsockopt(self, *_: object) -> None:
        pass

    def getsockopt(self, *_: object) -> bytes:
        raise OSError


class Wire(asyncio.Transport):
    """What one of the router's connections reads and writes."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self.inbox: deque[bytes] = deque()
        self.written = b""
        self.reading = True
        self.closing = self.lost = self.ended = False
        protocol.connection_made(self)

    def step(self) -> bool:
        """Lets the protocol see one more event. False: there is none."""
        if self.closing:
            if not self.lost:
                self.lost = True
                self._protocol.connection_lost(None)
                return True
        elif self.inbox and self.reading:
            self._protocol.data_received(self.inbox.popleft())
            return True
        return False

    def write(self, data: Any) -> None:
        if not self.closing:
            self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return NoSocket() if name == "socket" else ("192.0.2.7", 4711)


class FakePlane(DataPlane):
    """Connects at once to a pod that is not there."""

    __slots__ = ("asked",)

    def connect(self, endpoint: Endpoint, exchange: Exchange, *, pause: float = 0.0) -> None:
        self.asked.append((endpoint, exchange))


class NoPods:
    """In an activator's place: there are no pods but those that are there."""

    def wait(self, *_: object, **__: object) -> Problem:
        return errors.NO_CAPACITY

    def leave(self, *_: object) -> None:
        pass


class Run:
    """One client's connection, and the connections to pods that come of it.

    Args:
        pod: makes the other side of a connection to a pod.
        cuts: where what pods say is cut, in bytes over all of it; None: behind each byte.
        lazy: pods wait until the client has said all.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        pod: Callable[[], PodSide] = PodSide,
        *,
        cuts: Collection[int] | None = (),
        lazy: bool = False,
    ) -> None:
        monkeypatch.setattr(request_module, "_ids", count(1))
        table = Table()
        where = EndpointFacts(address="pod:1", activation_id="act-1")
        route = RouteFacts(name="hello", controller="c", sequence=1, endpoints=(where,))
        table.apply(route)
        self._plane = FakePlane(
            RouterConfig(max_body_bytes=4096, replay_bytes=100),
            table,
            cast("Activator", NoPods()),
            TimerWheel(),
            _nothing,
            Authorizer(api_asker(None), _nothing, most_waiting=1),
        )
        self._plane.asked = []
        self._pod = pod
        self._cuts = cuts
        self._said = 0
        self._lazy = lazy
        self.client = Wire(ClientConnection(self._plane))
        self.pods: list[tuple[Wire, PodSide]] = []

    @property
    def answers(self) -> bytes:
        """What the client gets. Whether a 100 comes depends on what has come when it is due."""
        return self.client.written.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")

    @property
    def requests(self) -> list[object]:
        """What pods understood."""
        return [one.meaning() for _, side in self.pods for one in side.requests]

    @property
    def outcome(self) -> object:
        """All that must not depend on where the bytes are cut."""
        return self.answers, self.requests, self.client.ended or self.client.closing

    def feed(self, pieces: list[bytes]) -> Run:
        """Lets the client say these pieces, and all sides what comes of it."""
        for piece in pieces:
            self.client.inbox.append(piece)
            while self.client.step():
                pass
            if not self._lazy:
                self._settle()
        self._settle()
        return self

    def _settle(self) -> None:
        while self._pods_step() or self.client.step():
            pass

    def _pods_step(self) -> bool:
        asked, self._plane.asked = self._plane.asked, []
        for endpoint, exchange in asked:
            if exchange.wants(endpoint):
                connection = UpstreamConnection(self._plane, exchange.function, endpoint)
                self.pods.append((Wire(connection), self._pod()))
                exchange.send(connection)
        moved = bool(asked)
        for wire, side in self.pods:
            data, wire.written = wire.written, b""
            if data:
                moved = True
                wire.inbox.extend(self._cut(side.feed(data)))
            moved = wire.step() or moved
        return moved

    def _cut(self, said: bytes) -> list[bytes]:
        start, self._said = self._said, self._said + len(said)
        if self._cuts is None:
            return [said[at : at + 1] for at in range(len(said))]
        inside = (cut - start for cut in self._cuts if start < cut < self._said)
        return [said[a:b] for a, b in pairwise([0, *sorted(inside), len(said)]) if a < b]


def _nothing(coroutine: Any, name: str) -> None:
    coroutine.close()


def cut(stream: bytes, cuts: Collection[int]) -> list[bytes]:
    """The pieces between these places."""
    edges = sorted({0, len(stream), *(at for at in cuts if at < len(stream))})
    return [stream[a:b] for a, b in pairwise(edges)]


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


def saying(answers: dict[bytes, bytes]) -> Callable[[], PodSide]:
    """Pods that answer these targets so, and others with what arrived."""

    def say(message: Message) -> bytes:
        return answers.get(message.target) or answer(message)

    return lambda: PodSide(say)
