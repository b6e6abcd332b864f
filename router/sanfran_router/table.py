"""What the router knows of functions and where they run. Pure: no I/O, no clock.

Every controller tells its own part; a function is what they say together:

- Of one controller process, the route with the highest sequence counts.
- Of several, the highest version counts; the endpoints of all that have it are one set.
- A deletion takes the endpoints of every controller; whatever is told later brings it back.
- An endpoint that failed is left out until its controller tells a newer route. One that could only
  not be reached also comes back when a controller, asked again, answers with it.
- A controller that is away keeps its part; its next `synced` replaces it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sanfran_router.errors import Problem
from sanfran_router.traffic import Traffic

UNLIMITED = 1 << 30
DELETED_KEPT = 10_000
"""Names answered with 404 without asking; older ones are asked for again."""


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

    def _take(self, facts: RouteFacts) -> None:
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

    def _retry_unreachable(self, facts: RouteFacts) -> None:
        for told in facts.endpoints:
            key = (told.address, told.activation_id)
            if self._dropped.get(key) is False:
                del self._dropped[key]
        self._merge()

    def _leave(self, controller: str) -> None:
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


class Table:
    """All functions by name."""

    def __init__(self) -> None:
        self.functions: dict[str, Function] = {}
        self.busy: set[Function] = set()
        """Those with traffic since the last load report."""
        self._sources: dict[str, str] = {}
        self._syncs: dict[str, Sync] = {}
        self._deleted: OrderedDict[str, None] = OrderedDict()

    def function(self, name: str) -> Function:
        """The function, made when it is not there yet; `forget_unknown` takes it away again."""
        found = self.functions.get(name)
        if found is None:
            found = self.functions[name] = Function(name)
        return found

    def forget_unknown(self, function: Function) -> None:
        """Drops a function that no controller has told of and that nothing waits for."""
        if not function.known and function.idle and self.functions.get(function.name) is function:
            del self.functions[function.name]
            self.busy.discard(function)

    def apply(self, facts: RouteFacts, *, answer: bool = False) -> Function:
        """Takes in a route.

        Args:
            answer: a controller gave it just now, when asked for this function.

        Returns:
            Its function; requests that wait for it may have become possible.
        """
        function = self.function(facts.name)
        held = function._routes.get(facts.controller)
        if answer:
            for sync in self._syncs.values():
                sync.told(facts)
        if held is None or facts.sequence > held.sequence:
            function._take(facts)
        elif answer and facts.sequence == held.sequence:
            function._retry_unreachable(facts)
        if function.deleted:
            self._deleted[facts.name] = None
            if len(self._deleted) > DELETED_KEPT:
                oldest, _ = self._deleted.popitem(last=False)
                if self.functions[oldest].idle:
                    self.busy.discard(self.functions.pop(oldest))
        else:
            self._deleted.pop(facts.name, None)
        return function

    def take_early(self, facts: RouteFacts, asked_at: float) -> Endpoint | None:
        """Takes in the answer of a controller whose pod still loads the function.

        The endpoint is no part of the table before a request has begun there, or a route names it: whoever comes
        meanwhile is better served by what the controller knows then.

        Args:
            asked_at: monotonic seconds.

        Returns:
            The endpoint, for requests that wait now; None when there is better news of the function.
        """
        known = replace(facts, sequence=0, endpoints=(), early=False)
        function = self.apply(known, answer=True)
        if function.deleted or function.endpoints:
            return None
        function.timeout, function.concurrency = facts.timeout, facts.concurrency or UNLIMITED
        function.body_limit, function.private = facts.body_limit, facts.private
        (told,) = facts.endpoints
        function.version = max(function.version, facts.version)
        early = function.early
        if early is not None:
            if (early.address, early.activation_id) == (told.address, told.activation_id):
                return early
            early.retire()
        function.early = Endpoint(told.address, told.activation_id, asked_at)
        return function.early

    def begin_sync(self, source: str) -> Sync:
        """A stream of routes begins.

        Args:
            source: the controller's address, which outlives the controller's process.
        """
        sync = self._syncs[source] = Sync(self, source)
        return sync

    def forget_source(self, source: str) -> list[Function]:
        """Drops what came from an address that will not come back. Returns what changed."""
        self._syncs.pop(source, None)
        controller = self._sources.pop(source, None)
        if controller is None or controller in self._sources.values():
            return []
        return self._forget(controller, keep=set())

    def _forget(self, controller: str, *, keep: set[tuple[str, str]]) -> list[Function]:
        changed = []
        for name, function in list(self.functions.items()):
            if controller in function._routes and (controller, name) not in keep:
                function._leave(controller)
                changed.append(function)
                if not function.known:
                    self._deleted.pop(name, None)
                self.forget_unknown(function)
        return changed


class Sync:
    """One stream from one controller: first all of its routes, then changes. See `begin_sync`."""

    def __init__(self, table: Table, source: str) -> None:
        self._table = table
        self._source = source
        self._seen: set[tuple[str, str]] | None = set()

    def route(self, facts: RouteFacts) -> Function:
        """Takes in the stream's next route."""
        self.told(facts)
        return self._table.apply(facts)

    def told(self, facts: RouteFacts) -> None:
        """A route is true now, whether this stream or an answer told it."""
        if self._seen is not None:
            self._seen.add((facts.controller, facts.name))

    def synced(self, controller: str) -> list[Function]:
        """All was sent: what this controller told before and not again is gone.

        Args:
            controller: the id of its process; a former process at the same address is forgotten.

        Returns:
            The functions that changed.
        """
        table, seen = self._table, self._seen or set()
        self._seen = None
        if table._syncs.get(self._source) is self:
            del table._syncs[self._source]
        former = table._sources.get(self._source)
        table._sources[self._source] = controller
        changed = table._forget(controller, keep=seen)
        if former is not None and former not in table._sources.values():
            changed += table._forget(former, keep=set())
        return changed
