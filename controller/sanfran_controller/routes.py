"""Where functions run, told to every router that watches.

A watcher that reads slowly misses nothing but intermediate states: for each function only the
latest route waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable

from sanfran_proto.sanfran import v1 as pb

from sanfran_controller import metrics
from sanfran_controller.pods import Pod

PENDING_MOST = 100_000
"""Functions whose changes may wait for one watcher."""


class WatcherTooSlow(Exception):
    """A watcher fell so far behind that it has to start over."""


class _Watcher:
    __slots__ = ("changed", "overrun", "pending")

    def __init__(self) -> None:
        self.pending: dict[str, pb.Route] = {}
        self.changed = asyncio.Event()
        self.overrun = False


class Routes:
    """The routes of this controller process.

    Args:
        controller: id of the process, in every route.
    """

    def __init__(self, controller: str, *, pending_most: int = PENDING_MOST) -> None:
        self.controller = controller
        self._pending_most = pending_most
        self._sequence = 0
        self._current: dict[str, pb.Route] = {}  # those with endpoints
        self._watchers: set[_Watcher] = set()

    def __len__(self) -> int:
        return len(self._current)

    def publish(self, function: pb.FunctionVersion, pods: Iterable[Pod]) -> pb.Route:
        """The function runs in exactly these pods from now on; none: it has to be activated."""
        return self._tell(self._route(function, pods))

    def early(self, function: pb.FunctionVersion, pod: Pod) -> pb.Route:
        """For one asking router, and nobody else: where the function will run, if it loads."""
        route = self._route(function, [pod])
        route.early = True
        route.controller = self.controller
        return route

    def unauthorized(self, function: pb.FunctionVersion) -> pb.Route:
        """For one asking router: the function is private, and who asks for it has not been let in yet."""
        route = self._route(function, [])
        route.controller = self.controller
        return route

    @staticmethod
    def _route(function: pb.FunctionVersion, pods: Iterable[Pod]) -> pb.Route:
        settings = function.settings if function.settings is not None else pb.FunctionSettings()
        endpoints = [
            pb.Endpoint(address=pod.address, activation_id=pod.activation.id, pod=pod.name)
            for pod in pods
            if pod.activation is not None
        ]
        return pb.Route(
            name=function.name,
            version=function.version,
            timeout_ms=settings.timeout_ms,
            concurrency=settings.concurrency,
            body_limit=settings.body_limit,
            private=settings.invoke == pb.Invoke.PRIVATE,
            endpoints=endpoints,
        )

    def publish_deleted(self, name: str) -> pb.Route:
        """The function is gone."""
        return self._tell(pb.Route(name=name, deleted=True))

    def _tell(self, route: pb.Route) -> pb.Route:
        self._sequence += 1
        route.sequence = self._sequence
        route.controller = self.controller
        if route.endpoints:
            self._current[route.name] = route
        else:
            self._current.pop(route.name, None)
        for watcher in self._watchers:
            watcher.pending[route.name] = route
            if len(watcher.pending) > self._pending_most:
                watcher.pending.clear()
                watcher.overrun = True
            watcher.changed.set()
        return route

    async def watch(self) -> AsyncGenerator[pb.RouteEvent]:
        """Every route, then `synced`, then changes, until the reader leaves.

        Raises:
            WatcherTooSlow: see `PENDING_MOST`.
        """
        watcher = _Watcher()
        self._watchers.add(watcher)
        metrics.ROUTERS.inc()
        try:
            for route in tuple(self._current.values()):
                yield pb.RouteEvent(route=route)
            yield pb.RouteEvent(synced=pb.RoutesSynced(controller=self.controller))
            while True:
                await watcher.changed.wait()
                watcher.changed.clear()
                if watcher.overrun:
                    raise WatcherTooSlow(f"more than {self._pending_most} changes wait")
                pending, watcher.pending = watcher.pending, {}
                for route in pending.values():
                    yield pb.RouteEvent(route=route)
        finally:
            self._watchers.discard(watcher)
            metrics.ROUTERS.dec()
