"""What the router knows of one function: where it runs, by what controllers tell, and its requests. Pure: no I/O, no clock."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

from sanfran_router.errors import Problem
from sanfran_router.traffic import Traffic

UNLIMITED = 1 << 30


class Waiter(Protocol):
    """A request that waits for a pod."""

    @property
    def held(self) -> int: ...

    @property
    def goes_early(self) -> bool: ...

    @property
    def granted(self) -> bool: ...

    def reroute(self) -> None: ...

    def assign(self, endpoint: Endpoint) -> None: ...

    def refuse(self, problem: Problem) -> None: ...


class Endpoint:
    """One pod's activation. Lives on while requests run on it, after the table has dropped it.

    Args:
        early: monotonic seconds when it was asked for, if its pod still loads; 0: it serves.
    """

    __slots__ = ("activation_id", "address", "early", "gone", "head_end", "idle", "in_flight")

    def __init__(self, address: str, activation_id: str, early: float = 0.0) -> None:
        self.address = address
        self.activation_id = activation_id
        self.in_flight = 0
        self.gone = False
        self.idle: list[Any] = []
        """Its open connections without a request; this module only closes them."""
        self.early = early
        line = b"x-sanfran-early: 1\r\n" if early else b""
        self.head_end = b"%bx-sanfran-activation: %b\r\n\r\n" % (line, activation_id.encode())
        """What ends each request head to it."""

    def confirm(self) -> None:
        """It serves."""
        self.early = 0.0
        self.head_end = b"x-sanfran-activation: %b\r\n\r\n" % self.activation_id.encode()

    def retire(self) -> None:
        """Takes no new requests: its idle connections close, the others when they are done."""
        self.gone = True
        idle, self.idle = self.idle, []
        for connection in idle:
            connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointFacts:
    """Where one activation runs, as a controller tells it."""

    address: str
    activation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteFacts:
    """One controller's word on one function. `timeout` is seconds, `body_limit` bytes; 0: the router's own."""

    name: str
    controller: str
    sequence: int
    version: int = 1
    timeout: float = 0.0
    concurrency: int = 0
    body_limit: int = 0
    private: bool = False
    endpoints: tuple[EndpointFacts, ...] = ()
    deleted: bool = False
    early: bool = False
    """Its one endpoint still loads: only for requests that wait already. See `Table.take_early`."""


_Key = tuple[str, str]


class Function:
    """One function, with its requests: those that run and those that wait."""

    __slots__ = (
        "_dropped",
        "_routes",
        "activating",
        "body_limit",
        "concurrency",
        "deleted",
        "early",
        "endpoints",
        "in_flight",
        "name",
        "private",
        "setbacks",
        "timeout",
        "traffic",
        "version",
        "waiting",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.version = 0
        self.timeout = 0.0
        self.concurrency = UNLIMITED
        self.body_limit = 0
        self.private = False
        """Only those may call it whom the api service lets: see `authorization`."""
        self.deleted = False
        self.endpoints: list[Endpoint] = []
        self.early: Endpoint | None = None
        """Of a pod that still loads; among `endpoints` once a route names it."""
        self._routes: dict[str, RouteFacts] = {}
        self._dropped: dict[_Key, bool] = {}  # key → the pod said itself that it is not the one

        self.in_flight = 0
        self.waiting: OrderedDict[Waiter, int] = OrderedDict()
        """With the bytes that each holds."""
        self.activating = False
        self.setbacks = 0
        """Endpoints dropped since the last answer."""
        self.traffic = Traffic()

    def pick(self) -> Endpoint | None:
        """The endpoint with the fewest requests, if it may run one more. Reserves nothing."""
        best, fewest = None, self.concurrency
        for endpoint in self.endpoints:
            if endpoint.in_flight < fewest:
                best, fewest = endpoint, endpoint.in_flight
        return best

    def told_by(self, controller: str) -> RouteFacts | None:
        """A controller's newest word."""
        return self._routes.get(controller)

    @property
    def known(self) -> bool:
        """A controller has told of it."""
        return bool(self._routes)

    @property
    def idle(self) -> bool:
        """Nothing runs, waits or is asked for."""
        return not (self.in_flight or self.waiting or self.activating)

    def began(self, endpoint: Endpoint) -> None:
        """A pod that was loading runs a request: it serves like any, also when its controller dies before it
        has told of that."""
        endpoint.confirm()
        if endpoint is self.early:
            self.early = None
            if self.endpoints:  # a route without it has come
                endpoint.retire()
            else:
                self.endpoints.append(endpoint)

    def drop(self, endpoint: Endpoint, *, fenced: bool) -> None:
        """Leaves an endpoint out from now on.

        Args:
            fenced: its pod answered that it runs something else or drains; else it failed.
        """
        if endpoint in self.endpoints:  # one setback, however many requests see it
            self.setbacks = min(self.setbacks + 1, 16)
        self._leave_out(endpoint, fenced=fenced)

    def part(self, endpoint: Endpoint) -> None:
        """Its pod has said, before any request met it, that it takes none any more."""
        self._leave_out(endpoint, fenced=True)

    def _leave_out(self, endpoint: Endpoint, *, fenced: bool) -> None:
        key = (endpoint.address, endpoint.activation_id)
        self._dropped[key] = fenced or self._dropped.get(key, False)
        if endpoint in self.endpoints:
            self.endpoints.remove(endpoint)
        if endpoint is self.early:
            self.early = None
        endpoint.retire()

    def take(self, facts: RouteFacts) -> None:
        """A controller's newest word."""
        if facts.deleted or facts.version > self.version:
            self.early = None  # only what waits there already may run there
        self._routes[facts.controller] = facts
        for told in facts.endpoints:
            self._dropped.pop((told.address, told.activation_id), None)
        if facts.deleted:
            self.deleted = True
            for other, held in self._routes.items():
                if held.endpoints:
                    self._routes[other] = _emptied(held)
        else:
            self.deleted = False
        self._merge()

    def retry_unreachable(self, facts: RouteFacts) -> None:
        """A controller has said the same again, when it was asked just now."""
        for told in facts.endpoints:
            key = (told.address, told.activation_id)
            if self._dropped.get(key) is False:
                del self._dropped[key]
        self._merge()

    def leave(self, controller: str) -> None:
        """What a controller told counts no more."""
        if self._routes.pop(controller, None) is not None:
            self._merge()

    def _merge(self) -> None:
        live = [held for held in self._routes.values() if not held.deleted]
        self.version = max((held.version for held in live), default=0)
        newest = [held for held in live if held.version == self.version]
        for held in newest:
            self.timeout = held.timeout
            self.concurrency = held.concurrency or UNLIMITED
            self.body_limit = held.body_limit
            self.private = held.private
        told = {(one.address, one.activation_id): one for held in newest for one in held.endpoints}
        if self._dropped:
            everything = {
                (one.address, one.activation_id) for held in live for one in held.endpoints
            }
            self._dropped = {k: v for k, v in self._dropped.items() if k in everything}
        before = {(one.address, one.activation_id): one for one in self.endpoints}
        if self.early is not None and told:
            before[self.early.address, self.early.activation_id] = self.early
            self.early = None
        self.endpoints = []
        for key, one in told.items():
            if key not in self._dropped:
                endpoint = before.pop(key, None)
                if endpoint is None:
                    endpoint = Endpoint(one.address, one.activation_id)
                elif endpoint.early:
                    endpoint.confirm()
                self.endpoints.append(endpoint)
        for endpoint in before.values():
            endpoint.retire()


def _emptied(held: RouteFacts) -> RouteFacts:
    return RouteFacts(
        name=held.name,
        controller=held.controller,
        sequence=held.sequence,
        version=held.version,
        timeout=held.timeout,
        concurrency=held.concurrency,
        body_limit=held.body_limit,
        private=held.private,
        deleted=True,  # what it told before counts no more, its version least of all
    )
