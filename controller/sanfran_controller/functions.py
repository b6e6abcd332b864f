"""Functions at run time: which pods serve each, and what routers are told about them.

A record exists for every function that was ever activated or waited for; what a function is (its
versions and settings) is the catalog's business. Everything here happens between two awaits, so a
record is always whole.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_controller.catalog import Catalog
from sanfran_controller.crashes import Crashes
from sanfran_controller.errors import ActivationError
from sanfran_controller.fleet import Fleet
from sanfran_controller.last_words import LastWords
from sanfran_controller.load import Loads
from sanfran_controller.pods import Activation, Pod, same_version
from sanfran_controller.reclaiming import Holder, choose
from sanfran_controller.routes import Routes
from sanfran_controller.scaling import Scaler, ScalingPolicy
from sanfran_controller.states import PodEvent, PodState

log = get_logger("functions")

FAILURE_FIRST, FAILURE_MOST = 1.0, 60.0
"""Seconds until code that did not load is tried again, since each try costs a pod. It doubles."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A version did not load; it is not tried again before `until` (monotonic seconds)."""

    version: pb.FunctionVersion
    message: str
    detail: str
    count: int
    until: float


class Function:
    """One function's record."""

    __slots__ = (
        "acks",
        "activations",
        "begins",
        "calls",
        "crashes",
        "failure",
        "fences",
        "flights",
        "last_activation_ms",
        "last_cold_at_ms",
        "last_cold_ms",
        "loading",
        "name",
        "reconciling",
        "route",
        "scaler",
        "serving",
    )

    def __init__(self, name: str, scaler: Scaler) -> None:
        self.name = name
        self.scaler = scaler
        self.serving: dict[str, Pod] = {}  # active ones; during an update of both versions
        self.route: pb.Route | None = None  # as published last, when it has endpoints
        self.flights: set[asyncio.Task[ActivationError | None]] = set()
        self.loading: dict[str, Pod] = {}  # whose sidecars were told to load it
        self.begins: asyncio.Future[None] | None = None  # done when the next one is told
        self.failure: Failure | None = None
        self.crashes = Crashes()
        # For status.
        self.activations = 0
        self.last_activation_ms = 0.0
        self.last_cold_ms = 0.0  # of the last one that found no pod
        self.last_cold_at_ms = 0  # Unix time; 0: never
        self.calls = 0
        # Of updates: what to call when all old pods are fenced.
        self.acks: list[Callable[[], None]] = []
        self.fences: set[asyncio.Task[None]] = set()
        self.reconciling: asyncio.Task[None] | None = None

    def failed(self, version: pb.FunctionVersion, message: str, detail: str, now: float) -> None:
        """Remembers that a version does not load. Flights that fail together count once."""
        former = self.failure if self.broken(version) else None
        if former is not None and now < former.until:
            return
        count = former.count if former is not None else 0
        until = now + min(FAILURE_FIRST * 2**count, FAILURE_MOST)
        self.failure = Failure(version, message, detail, min(count + 1, 16), until)

    def broken(self, version: pb.FunctionVersion | None) -> bool:
        """Whether the last try to load this very version failed."""
        return self.failure is not None and self.failure.version is version


class Functions:
    """The records, and every change of who serves what. A `FleetListener`.

    Args:
        adopt_patience: seconds to wait for the catalog before a pod that a former controller
            process left active is believed to run the newest version.
    """

    def __init__(
        self,
        catalog: Catalog,
        fleet: Fleet,
        routes: Routes,
        loads: Loads,
        policy: ScalingPolicy,
        *,
        adopt_patience: float = 3.0,
    ) -> None:
        self.warm: dict[str, Function] = {}  # those with pods
        self.last_words = LastWords()
        self.bereft: set[str] = set()  # those that lost a pod since the autoscaler looked
        self.disturbed = asyncio.Event()
        self.on_loading: Callable[[Function, Pod], None] = lambda function, pod: None
        """Called with each pod that was found while it loads."""
        self._records: dict[str, Function] = {}
        self._catalog = catalog
        self._fleet = fleet
        self._routes = routes
        self._loads = loads
        self._policy = policy
        self._adopt_patience = adopt_patience

    def peek(self, name: str) -> Function | None:
        """The record, if there is one."""
        return self._records.get(name)

    def of(self, name: str) -> Function:
        """The record, made when there is none."""
        function = self._records.get(name)
        if function is None:
            function = Function(name, Scaler(self._policy, time.monotonic()))
            self._records[name] = function
        return function

    def forget(self, function: Function) -> None:
        """Drops the record of a function that does not exist, once nothing refers to it."""
        in_use = function.serving or function.flights or function.fences or function.acks
        if not in_use and self._catalog.get(function.name) is None:
            self._records.pop(function.name, None)
            self.last_words.forget(function.name)

    def fresh(self, function: Function) -> list[Pod]:
        """The pods that run the newest version."""
        current = self._catalog.get(function.name)
        return [pod for pod in function.serving.values() if _runs(pod) is current]

    def stale(self, function: Function) -> list[Pod]:
        """The pods that run another version than the newest."""
        current = self._catalog.get(function.name)
        return [pod for pod in function.serving.values() if _runs(pod) is not current]

    # -- changes

    def serve(self, function: Function, pod: Pod) -> None:
        """An active pod serves the function from now on. While pods of an older version still do, it
        waits for `withdraw` to take them away, so that a route never mixes versions."""
        function.serving[pod.name] = pod
        function.scaler.used(time.monotonic())
        self._publish(function)

    def withdraw(self, function: Function, pods: Iterable[Pod], *, deleted: bool = False) -> None:
        """Takes pods out of the route, then has them fenced and recycled.

        Args:
            deleted: the function is gone, which routers are told.
        """
        leaving = list(pods)
        for pod in leaving:
            function.serving.pop(pod.name, None)
        if deleted:
            function.route = None
            self.warm.pop(function.name, None)
            self._routes.publish_deleted(function.name)
        else:
            self._publish(function)
        for pod in leaving:
            self._await(function, self._fleet.partings.dismiss(pod))

    def expose(self, function: Function) -> pb.Route | None:
        """The early route of a pod that loads the newest version, if there is one. From now on an update
        waits for that pod's end, if it comes before it serves: see `revoke`."""
        current = self._catalog.get(function.name)
        for pod in function.loading.values():
            if _runs(pod) is current and pod.state is PodState.ACTIVATING:
                pod.exposed = True
                return self._routes.early(current, pod)
        return None

    def closed(self, function: Function) -> pb.Route | None:
        """What a router gets that does not say that its callers may: nothing runs for them if the function
        is private. None: it is not."""
        current = self._catalog.get(function.name)
        settings = current.settings if current is not None else None
        if current is None or settings is None or settings.invoke != pb.Invoke.PRIVATE:
            return None
        return self._routes.unauthorized(current)

    def revoke(self, function: Function) -> None:
        """Sees to the end of pods that still load what is not the newest version, and that routers were told of:
        an update waits until they refuse requests, or are dead."""
        current = self._catalog.get(function.name)
        for pod in [one for one in function.loading.values() if _runs(one) is not current]:
            if pod.exposed:
                self._await(function, self._fleet.partings.outlast(pod))
                if current is not None and not function.serving:
                    self._publish(function)  # routers send nothing more to it

    def superseded(self, function: Function, pod: Pod) -> None:
        """A pod has loaded what is not the newest version any more. If a router was told of it, requests that
        waited in it may run by now, and end as in any pod that is taken out of a route."""
        loaded = pod.state is PodState.ACTIVATING
        if not pod.exposed:
            if loaded and pod.activation is not None:
                self._fleet.partings.recycle(pod, pod.activation)
        elif loaded:
            self._fleet.stock.step(pod, PodEvent.LOADED)
            self._await(function, self._fleet.partings.dismiss(pod))
        else:
            self.ended(function, pod)

    def ended(self, function: Function, pod: Pod) -> None:
        """A pod was ended without having served. One that a router was told of may have loaded all the same, with
        requests that wait in it: until it is dead it counts as a fence that is not up."""
        if pod.exposed:
            self._await(function, self._fleet.partings.ending(pod))

    def _await(self, function: Function, fence: asyncio.Task[None]) -> None:
        function.fences.add(fence)
        fence.add_done_callback(function.fences.discard)

    def lost(self, pod: Pod) -> None:
        """See `FleetListener`."""
        assert pod.activation is not None
        function = self._records.get(pod.activation.function.name)
        if function is not None and pod.crashed:
            function.crashes.count(pod.activation.function, time.monotonic())
        if function is not None and function.serving.pop(pod.name, None) is not None:
            self._publish(function)
            self.disturb(function.name)

    def said(self, activation: Activation, words: list[pb.LogLine]) -> None:
        """See `FleetListener`."""
        if self._catalog.get(activation.function.name) is not None:
            self.last_words.keep(activation.function.name, words)

    async def found(self, pod: Pod, activation: Activation) -> bool:
        """See `FleetListener`. Without the api service, what a pod runs is believed to be the newest
        version; as soon as the catalog says otherwise it is replaced like after any update."""
        told = activation.function
        await self._catalog.wait_synced(self._adopt_patience)
        if not self._catalog.synced.is_set() and told.name:
            self._catalog.put(told)
        current = self._catalog.get(told.name)
        if current is None or not same_version(current, told):
            return False
        pod.activation = Activation(activation.id, current)
        self._fleet.stock.step(pod, PodEvent.FOUND_ACTIVE)
        self.serve(self.of(current.name), pod)
        log.info("pod adopted", pod=pod.name, function=current.name, version=current.version)
        return True

    async def found_loading(self, pod: Pod, activation: Activation) -> bool:
        """See `FleetListener`."""
        await self._catalog.wait_synced(self._adopt_patience)
        told, current = activation.function, self._catalog.get(activation.function.name)
        wanted = self._catalog.synced.is_set() and pod.state is PodState.STARTING
        if not wanted or current is None or not same_version(current, told):
            return False
        pod.activation = Activation(activation.id, current)
        pod.exposed = True  # a router may have been told of it
        self._fleet.stock.step(pod, PodEvent.FOUND_LOADING)
        log.info("pod adopted while it loads", pod=pod.name, function=current.name)
        self.on_loading(self.of(current.name), pod)
        return True

    def reclaim(self, count: int, from_busy: int) -> int:
        """See `FleetListener`."""
        now, taken = time.monotonic(), 0
        chosen = choose(
            [self._holder(function, now) for function in self.warm.values()],
            count,
            from_busy=from_busy,
            waiting=self._fleet.stock.cold,
        )
        for name, pods in chosen.items():
            function = self.warm[name]
            self.withdraw(function, list(function.serving.values())[-pods:])
            taken += pods
        return taken

    def disturb(self, name: str) -> None:
        """Something happened to a function that the autoscaler should look at now."""
        self.bereft.add(name)
        self.disturbed.set()

    def settings(self, name: str) -> pb.FunctionSettings:
        """Of the newest version; defaults when there is none."""
        current = self._catalog.get(name)
        settings = current.settings if current is not None else None
        # Not `or`: whether a message is empty takes 0.04 ms to find out.
        return settings if settings is not None else pb.FunctionSettings()

    def _holder(self, function: Function, now: float) -> Holder:
        pods = len(function.serving)
        # While it changes, it keeps what it has. One that wants more gives nothing up as idle.
        changes = function.reconciling is not None
        idle = (
            not function.flights
            and function.scaler.quiet_for(now) >= 2 * self._policy.report_every
            and self._loads.demand(function.name) == 0
        )
        keep = pods if changes else self.settings(function.name).min_scale
        return Holder(function.name, pods, keep, function.scaler.last_used, idle)

    def _publish(self, function: Function) -> None:
        """Tells routers of the pods of one version: while old ones serve, of the oldest."""
        if function.serving:
            self.warm[function.name] = function
            shown = (self.stale(function) or list(function.serving.values()))[0]
            version = _runs(shown)
            pods = [pod for pod in function.serving.values() if _runs(pod) is version]
            endpoints = [pod.name for pod in pods]
            route = function.route
            if route is not None and [one.pod for one in route.endpoints] == endpoints:
                return  # a pod of the next version has joined; nobody needs to know yet
            function.route = self._routes.publish(version, pods)
            return
        self.warm.pop(function.name, None)
        function.route = None
        current = self._catalog.get(function.name)
        if current is not None:
            self._routes.publish(current, ())


def _runs(pod: Pod) -> pb.FunctionVersion:
    assert pod.activation is not None, f"{pod.name} serves nothing"
    return pod.activation.function
