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
from dataclasses import replace

from sanfran_router.function import UNLIMITED, Endpoint, Function, RouteFacts

DELETED_KEPT = 10_000
"""Names answered with 404 without asking; older ones are asked for again."""


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
        held = function.told_by(facts.controller)
        if answer:
            for sync in self._syncs.values():
                sync.told(facts)
        if held is None or facts.sequence > held.sequence:
            function.take(facts)
        elif answer and facts.sequence == held.sequence:
            function.retry_unreachable(facts)
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
            if function.told_by(controller) is not None and (controller, name) not in keep:
                function.leave(controller)
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
