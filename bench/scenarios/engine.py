"""A controller and a router with simulated pods, in simulated time.

The decisions are the real ones, and so is what carries them out: `pool`, `scaling`, `claims`, `stock`, `fleet`,
`activation`, `functions`, `autoscale`, `load`, `routes` and the gRPC service's methods; of the router its table and its queues.
Simulated are the clock, the pods and their provider, what is on the wire, and the clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast
from unittest import mock

from grpclib import GRPCError, Status
from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.rpc.client import RpcClient
from sanfran_controller import fleet as fleet_module
from sanfran_controller.activation import Activator
from sanfran_controller.autoscale import Autoscaler
from sanfran_controller.bundles import SmallBundles
from sanfran_controller.catalog import Catalog
from sanfran_controller.decisions import Decisions
from sanfran_controller.fleet import Fleet
from sanfran_controller.functions import Functions
from sanfran_controller.load import Loads
from sanfran_controller.pool import Pool, PoolLimits
from sanfran_controller.routes import Routes
from sanfran_controller.scaling import ScalingPolicy
from sanfran_controller.service import ControllerService
from sanfran_proto.sanfran import v1 as pb
from sanfran_router import errors
from sanfran_router.activation import Activator as Queues
from sanfran_router.control import route_facts
from sanfran_router.errors import Problem, Refusal
from sanfran_router.function import Endpoint, Function, RouteFacts
from sanfran_router.table import Table

from bench.scenarios.pods import CREATOR, Client, Machine, Phase, Provider, SimulatedPod

ACTIVATION_TIMEOUT = 10.0
QUEUE_TIMEOUT = 10.0
"""Seconds that the router lets a request wait; what waits longer is lost."""
FILLED_AFTER = 30.0
"""Seconds in which the pool gets full at first."""
LOOK_EVERY = 0.5
"""Seconds between two looks at who does nothing."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request.

    Args:
        at: seconds since the start.
        seconds: that its handler takes.
    """

    at: float
    function: str
    seconds: float


@dataclass(slots=True)
class Observed:
    """What clients and an accountant saw.

    Args:
        waits: seconds from a request's arrival to its handler, of all that were answered.
        cold: the same of those whose function had no pod.
        lost: requests that were refused or waited for too long.
        queue: requests that waited for a pod at once, at most.
        started: pods that were started.
        pods: pods at once, at most.
        surplus: pod-seconds of pods beyond the pool's size, and beyond what a function's requests needed.
        changes: decisions to scale a function up or down.
    """

    requests: int = 0
    waits: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    by_function: dict[str, list[float]] = field(default_factory=dict)
    lost: int = 0
    queue: int = 0
    started: int = 0
    pods: int = 0
    surplus: float = 0.0
    changes: int = 0


class Counted(Decisions):
    """Counts how often functions were scaled."""

    def __init__(self, seen: Observed) -> None:
        super().__init__()
        self._seen = seen

    def took(
        self, kind: str, reason: str, pods: int, *, why: str, facts: str, function: str = ""
    ) -> None:
        """See `Decisions`."""
        self._seen.changes += bool(function)
        super().took(kind, reason, pods, why=why, facts=facts, function=function)


class Engine:
    """One controller, one router. Use `running`."""

    def __init__(
        self,
        machine: Machine,
        limits: PoolLimits,
        policy: ScalingPolicy,
        loads: Loads,
        *,
        cpu_bound: bool,
    ) -> None:
        self.provider = Provider(machine)
        self.seen = Observed()
        self._limits = limits
        self._policy = policy
        self._loads = loads
        self._cpu_bound = cpu_bound
        self._table = Table()
        self._tasks = OwnedTasks("engine")
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        nobody = cast("RpcClient", Client(pb.ApiBase()))
        self._routes = Routes("controller")
        self.catalog = Catalog(nobody)
        self.catalog.synced.set()
        self._bundles = SmallBundles(nobody, most=0)
        self.fleet = Fleet(self.provider, Pool(limits), owner=CREATOR)
        self.fleet.decisions = Counted(self.seen)
        self.functions = Functions(self.catalog, self.fleet, self._routes, loads, policy)
        self.fleet.attach(self.functions)
        self._activator = Activator(
            self.catalog, self.functions, self.fleet, self._bundles, timeout=ACTIVATION_TIMEOUT
        )
        self._autoscaler = Autoscaler(
            self.catalog,
            self.functions,
            self._activator,
            loads,
            policy,
            self.fleet.decisions,
            idle_timeout=60.0,
        )
        self._service = ControllerService(
            self._activator, self.catalog, self.functions, self.fleet, self._routes, loads
        )
        self._queues = Queues(
            self._table,
            self._ask,
            lambda work, name: self._tasks.spawn(work, name=name),
            queue_size=100_000,
            queue_total=100_000,
            queue_bytes=1 << 30,
            timeout=ACTIVATION_TIMEOUT,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Engine]:
        """Runs it, the pool being full at first."""
        with mock.patch.object(fleet_module, "RpcClient", self.provider.client):
            async with self._bundles, self.fleet, self._activator, self._service, self._tasks:
                self._tasks.loop(self._follow(), name="routes")
                self._tasks.loop(self._autoscaler.run(), name="scale")
                self._tasks.loop(self._report(), name="report")
                await asyncio.sleep(FILLED_AFTER)
                self._tasks.loop(self._look(), name="look")
                yield self

    def deploy(self, name: str, settings: pb.FunctionSettings) -> None:
        """Makes a function."""
        self.catalog.put(pb.FunctionVersion(name=name, version=1, digest=name, settings=settings))

    async def play(self, arrivals: Iterable[Arrival], seconds: float) -> Observed:
        """Sends the requests at their times, and looks on until the end."""
        self._began = self._loop.time()
        self.seen.started = -self.provider.started  # what filled the pool at first
        self._coming = iter(arrivals)
        self._send_next()
        await asyncio.sleep(seconds)
        seen = self.seen
        seen.started += self.provider.started
        seen.pods = self.provider.most
        seen.lost += seen.requests - seen.lost - len(seen.waits)
        seen.lost += sum(wait > QUEUE_TIMEOUT for wait in seen.waits)
        return seen

    def _send_next(self) -> None:
        arrival = next(self._coming, None)
        if arrival is None:
            return
        self._loop.call_at(self._began + arrival.at, self._arrived, arrival)

    def _arrived(self, arrival: Arrival) -> None:
        self.seen.requests += 1
        Request(self, self._table.function(arrival.function), arrival).route()
        self._send_next()

    # -- the router

    async def _ask(self, name: str, saturated: bool, early: bool, timeout: float) -> RouteFacts:
        request = pb.ActivateFunctionRequest(name=name, router="r", saturated=saturated)
        try:
            async with asyncio.timeout(timeout):
                return route_facts(await self._service.activate(request))
        except TimeoutError:
            raise Refusal(errors.NO_CAPACITY) from None
        except GRPCError as error:
            failed = error.status is Status.FAILED_PRECONDITION
            raise Refusal(errors.LOAD_FAILED if failed else errors.NO_CAPACITY) from error

    async def _follow(self) -> None:
        sync = self._table.begin_sync("controller")
        async for event in self._service.watch_routes(pb.WatchRoutesRequest(router="r")):
            if event.route is not None:
                function = sync.route(route_facts(event.route))
                if function.waiting:
                    self._queues.dispatch(function)
            elif event.synced is not None:
                sync.synced(event.synced.controller)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(self._policy.report_every)
            loads = []
            for function in sorted(self._table.busy, key=lambda one: one.name):
                traffic, queued = function.traffic, len(function.waiting)
                loads.append(
                    pb.FunctionLoad(
                        name=function.name,
                        in_flight=function.in_flight,
                        queued=queued,
                        requests=traffic.requests,
                        peak_in_flight=traffic.peak,
                    )
                )
                traffic.requests = 0
                traffic.peak = function.in_flight + queued
                if not traffic.peak:
                    self._table.busy.discard(function)
            await self._service.report_load(pb.LoadReport(router="r", functions=loads))

    # -- the accountant

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.seen.queue = max(self.seen.queue, self._queues.waiting)
            surplus = max(self.fleet.stock.idle - self._limits.size, 0)
            for function in self.functions.warm.values():
                asked = self._table.function(function.name)
                wanted = asked.in_flight + len(asked.waiting)
                settings = self.functions.settings(function.name)
                needed = max(-(-wanted // max(settings.concurrency, 1)), settings.min_scale, 1)
                surplus += max(len(function.serving) - needed, 0)
            self.seen.surplus += surplus * LOOK_EVERY


class Request:
    """A `Waiter` of the router's queues."""

    goes_early = False
    """Loading takes the same time wherever it waits."""
    granted = True

    __slots__ = ("_again", "_arrival", "_at", "_cold", "_engine", "_function", "held")

    def __init__(self, engine: Engine, function: Function, arrival: Arrival) -> None:
        self._engine = engine
        self._function = function
        self._arrival = arrival
        self._at = engine._loop.time()
        self._cold = not function.endpoints
        self._again = False
        self.held = 0

    def route(self) -> None:
        """To a pod that has room, or to wait for one."""
        endpoint = self._function.pick()
        if endpoint is not None:
            self.assign(endpoint)
            return
        queues = self._engine._queues
        problem = queues.wait(self._function, self, again=self._again)
        self._engine.seen.queue = max(self._engine.seen.queue, queues.waiting)
        if problem is not None:
            self.refuse(problem)

    def refuse(self, problem: Problem) -> None:
        """See `Waiter`."""
        self._engine.seen.lost += 1

    def reroute(self) -> None:
        """No function here is private."""

    def assign(self, endpoint: Endpoint) -> None:
        """See `Waiter`."""
        function, engine = self._function, self._engine
        pod = engine.provider.pods.get(endpoint.address.rpartition(":")[0])
        serves = (
            pod is not None
            and pod.phase is Phase.ACTIVE
            and pod.activation.activation_id == endpoint.activation_id
        )
        if pod is None or not serves:
            function.drop(endpoint, fenced=True)
            self._again = True
            self.route()
            return
        endpoint.in_flight += 1
        function.in_flight += 1
        function.traffic.peak = max(function.traffic.peak, function.in_flight)
        engine._table.busy.add(function)
        now = engine._loop.time()
        begins = now
        if engine._cpu_bound:  # one at a time, since each holds the event loop
            begins = max(now, pod.busy_until)
            pod.busy_until = begins + self._arrival.seconds
        wait = begins - self._at
        engine.seen.waits.append(wait)
        engine.seen.by_function.setdefault(function.name, []).append(wait)
        if self._cold:
            engine.seen.cold.append(wait)
        pod.running += 1
        engine._loop.call_at(begins + self._arrival.seconds, self._over, endpoint, pod)

    def _over(self, endpoint: Endpoint, pod: SimulatedPod) -> None:
        pod.running -= 1
        if not pod.running and pod.phase is Phase.DRAINING:
            pod.tell()
        function = self._function
        endpoint.in_flight -= 1
        function.in_flight -= 1
        function.setbacks = 0
        function.traffic.requests += 1
        if function.waiting:
            self._engine._queues.dispatch(function)
