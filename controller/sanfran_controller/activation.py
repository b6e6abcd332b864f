"""Makes generic pods serve functions.

A *flight* is one attempt to give a function one more pod: metadata from the catalog, a pod from the
stock, the sidecar's `Activate`. All callers that want the function wait for the same flight; those
that leave do not end it. When the function changes while a flight is under way, what was loaded
is thrown away and the flight starts over with the newest version.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Coroutine
from typing import Any

from grpclib import GRPCError, Status
from sanfran_common.lifecycle import TaskOwner
from sanfran_common.rpc.client import Unreachable
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_controller import metrics
from sanfran_controller.bundles import SmallBundles
from sanfran_controller.catalog import Catalog
from sanfran_controller.errors import ActivationError, LoadFailed, NoCapacity, Unavailable
from sanfran_controller.fleet import Fleet
from sanfran_controller.functions import Function, Functions
from sanfran_controller.pods import Activation, Pod
from sanfran_controller.sidecars import CALL_TIMEOUT
from sanfran_controller.states import PodEvent, PodState
from sanfran_controller.stock import ClaimDropped

log = get_logger("activation")

TRIES = 3
"""Pods per flight. One may die by chance and a second with it; a third says that it is not chance."""
LEAST_CALL = 1.0
"""Seconds that a load gets, also when the pod came in the last moment."""
BUNDLE_AGAIN, BUNDLE_PATIENCE = 0.2, 5.0
"""Seconds: the api service may be starting again."""

Flight = asyncio.Task[ActivationError | None]


class Activator(TaskOwner):
    """Runs flights while its `async with` lasts.

    Args:
        timeout: seconds for one flight, the wait for a pod included.
    """

    def __init__(
        self,
        catalog: Catalog,
        functions: Functions,
        fleet: Fleet,
        bundles: SmallBundles,
        *,
        timeout: float,
    ) -> None:
        super().__init__("activation")
        self._catalog = catalog
        self._functions = functions
        self._fleet = fleet
        self._bundles = bundles
        self._timeout = timeout
        functions.on_loading = self._go_on

    async def activate(
        self, name: str, *, saturated: bool, early: bool = False, authorized: bool = False
    ) -> pb.Route:
        """Returns the route of a function that is served.

        Args:
            name: of the function.
            saturated: one more pod is wanted than now, if max_scale allows.
            early: a pod that still loads it will do.
            authorized: those who call it may, if it is private.

        Raises:
            ActivationError: it cannot be served.
        """
        began = time.monotonic()
        function = self._functions.of(name)
        if not authorized and (closed := self._functions.closed(function)) is not None:
            return closed
        function.scaler.used(began)
        if function.route is not None and (not saturated or self._at_most(function)):
            return function.route
        want = len(self._functions.fresh(function)) + 1 if saturated else 1
        flights = set(function.flights)
        if (new := self.ensure(function, want) - flights) and saturated:
            self._fleet.decisions.took(
                "scale_up",
                "saturated",
                len(new),
                why="a router found every pod at its concurrency",
                facts=f"pods {want - 1}, arriving {len(flights)}",
                function=name,
            )
        awaited: set[asyncio.Future[Any]] = {*flights, *new}
        if early and not saturated:
            if (route := self._functions.expose(function)) is not None:
                return route
            if function.begins is None:
                function.begins = asyncio.get_running_loop().create_future()
            awaited.add(function.begins)
        done, _ = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        metrics.STEP_SECONDS.labels("queue").observe(time.monotonic() - began)
        if function.route is not None:
            return function.route
        if early and (route := self._functions.expose(function)) is not None:
            return route
        for flight in done & {*flights, *new}:
            outcome = Unavailable("stopping") if flight.cancelled() else flight.result()
            if outcome is not None:
                raise outcome
        raise Unavailable("the pod ended right after its activation")

    def ensure(self, function: Function, want: int) -> set[Flight]:
        """Starts as many flights as a function lacks to have `want` pods of its newest version, and
        returns all that are under way. A flight never raises: its result is its error."""
        missing = want - len(self._functions.fresh(function)) - len(function.flights)
        if function.broken(self._catalog.get(function.name)):
            missing = min(
                missing, 1 - len(function.flights)
            )  # one pod finds out whether it loads now
        for _ in range(missing):
            self._begin(function, self._give_pod(function, time.monotonic() + self._timeout))
        return set(function.flights)

    def _go_on(self, function: Function, pod: Pod) -> None:
        """Takes over the flight of a former controller process, at its load."""
        self._begin(function, self._await_load(function, pod))

    def _begin(self, function: Function, work: Coroutine[Any, Any, None]) -> None:
        flight = self._tasks.spawn(self._fly(function, work), name=f"activate {function.name}")
        function.flights.add(flight)
        flight.add_done_callback(lambda flight: self._landed(function, flight))

    def _landed(self, function: Function, flight: Flight) -> None:
        function.flights.discard(flight)
        self._functions.forget(function)

    def _at_most(self, function: Function) -> bool:
        most = self._functions.settings(function.name).max_scale
        return bool(most) and len(self._functions.fresh(function)) >= most

    async def _fly(
        self, function: Function, work: Coroutine[Any, Any, None]
    ) -> ActivationError | None:
        try:
            await work
        except ActivationError as error:
            metrics.ACTIVATIONS.labels(type(error).__name__).inc()
            log.info("not activated", function=function.name, why=str(error))
            return error
        metrics.ACTIVATIONS.labels("ok").inc()
        return None

    async def _give_pod(self, function: Function, deadline: float) -> None:
        began = time.monotonic()
        failures = 0
        while True:
            version = await self._catalog.require(function.name)
            self._refuse_broken(function, version)
            if pause := function.crashes.pause(version, time.monotonic()):
                if time.monotonic() + pause > deadline:
                    raise NoCapacity("its pods crash too often; a further one has to wait")
                await asyncio.sleep(pause)
                continue
            try:
                pod = await self._claim(function, deadline)
            except ClaimDropped:
                continue
            if self._catalog.get(function.name) is not version:
                self._give_back(pod)
                continue
            limit = max(deadline - time.monotonic(), LEAST_CALL)
            activation = Activation(secrets.token_urlsafe(16), version)
            pod.exposed = False
            try:
                answer = await self._load(function, pod, activation, limit)
            except GRPCError as error:
                why = f"{error.status.name} {error.message}"
                phase = await self._after_broken_call(function, pod, error)
                if error.status is Status.DEADLINE_EXCEEDED:
                    raise self._too_late(function, version, phase, limit) from error
                if phase is pb.PodPhase.GENERIC:
                    until = min(deadline, began + BUNDLE_PATIENCE)
                    if time.monotonic() + BUNDLE_AGAIN > until:
                        raise Unavailable(f"its bundle cannot be had: {why}") from error
                    await asyncio.sleep(BUNDLE_AGAIN)
                    continue
                if isinstance(error, Unreachable):
                    continue  # dead before it heard of this function: each is met but once
            else:
                if self._place(function, pod, activation, answer, began):
                    return
                why = "ended right after it had loaded"
            if self._catalog.get(function.name) is not version:
                continue  # which may be why it is dead, or not wanted any more
            failures += 1
            if failures >= TRIES:
                raise Unavailable(f"{failures} pods failed: {why}")

    async def _await_load(self, function: Function, pod: Pod) -> None:
        """The same question once more joins the load under way, and has its answer."""
        began, activation = time.monotonic(), pod.activation
        assert activation is not None
        try:
            answer = await self._load(function, pod, activation, self._timeout)
        except GRPCError as error:
            await self._after_broken_call(function, pod, error)
            raise Unavailable(f"not adopted: {error.status.name} {error.message}") from error
        self._place(function, pod, activation, answer, began)

    def _place(
        self,
        function: Function,
        pod: Pod,
        activation: Activation,
        answer: pb.ActivatePodResponse,
        began: float,
    ) -> bool:
        """Puts a pod where it belongs that has answered; returns whether it serves.

        Raises:
            LoadFailed: of the newest version.
        """
        wanted = self._catalog.get(function.name) is activation.function
        if answer.failed is not None:
            self._fleet.end(pod, "spent by code that did not load", expected=True)
            self._functions.ended(function, pod)
            if wanted:
                raise self._load_failed(function, activation.function, answer.failed)
        elif not wanted:
            self._functions.superseded(function, pod)
        elif answer.loaded is not None and pod.state is PodState.ACTIVATING:
            self._serve(function, pod, answer.loaded, began)
            self._bundles.want(activation.function)
            return True
        else:
            self._functions.ended(function, pod)
        return False

    async def _claim(self, function: Function, deadline: float) -> Pod:
        began = time.monotonic()
        growth = bool(self._functions.fresh(function))
        try:
            async with asyncio.timeout(deadline - began):
                pod = await self._fleet.stock.claim(function.name, growth=growth)
        except TimeoutError as error:
            raise NoCapacity(f"no pod could be had within {self._timeout:g} s") from error
        metrics.STEP_SECONDS.labels("claim").observe(time.monotonic() - began)
        return pod

    async def _load(
        self, function: Function, pod: Pod, activation: Activation, limit: float
    ) -> pb.ActivatePodResponse:
        began = time.monotonic()
        pod.activation = activation
        pod.answered = asyncio.Event()
        request = pb.ActivatePodRequest(
            activation_id=activation.id,
            function=activation.function,
            bundle=self._bundles.get(activation.function.digest),
        )
        function.loading[pod.name] = pod
        if function.begins is not None:
            # Those who wait run when the call has left.
            function.begins.set_result(None)
            function.begins = None
        try:
            answer = await pod.calls.activate(request, timeout=limit)
        except asyncio.CancelledError:
            # This process stops. The pod goes on loading, with the requests that wait in it, and whoever owns
            # it next goes on with it.
            del function.loading[pod.name]
            raise
        del function.loading[pod.name]
        pod.answered.set()  # who waits for that runs when the pod has been put where it belongs
        metrics.STEP_SECONDS.labels("call").observe(time.monotonic() - began)
        return answer

    async def _after_broken_call(
        self, function: Function, pod: Pod, error: GRPCError
    ) -> pb.PodPhase | None:
        """Puts a pod where it belongs whose `Activate` gave no answer.

        Returns:
            What its sidecar says that it does; None when nobody was asked, or none answers.
        """
        phase = await self._phase_after(pod, error)
        # Until now, since an update must not overlook it.
        del function.loading[pod.name]
        pod.answered.set()
        if phase is pb.PodPhase.GENERIC:
            self._give_back(pod)
            return phase
        if pod.state is PodState.ACTIVATING:
            self._fleet.end(pod, f"not activated: {error.status.name} {error.message}")
        self._functions.ended(function, pod)
        return phase

    @staticmethod
    async def _phase_after(pod: Pod, error: GRPCError) -> pb.PodPhase | None:
        if pod.state is not PodState.ACTIVATING:
            return None
        phase = None
        if error.status in (Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED):
            # Either the sidecar is beyond reach, or it says this of the bundle or the load: ask.
            try:
                state = await pod.calls.get_state(pb.GetStateRequest(), timeout=CALL_TIMEOUT)
                phase = state.phase
            except GRPCError:
                pass
        return phase

    def _too_late(
        self,
        function: Function,
        version: pb.FunctionVersion,
        phase: pb.PodPhase | None,
        limit: float,
    ) -> ActivationError:
        """Whose fault it is that a load did not end: the code's only if its pod came early, and is
        alive."""
        if phase is None:
            return Unavailable("the pod does not answer")
        if phase is pb.PodPhase.GENERIC or limit < self._timeout / 2:
            return NoCapacity(f"no pod could load it within {self._timeout:g} s")
        message = f"the code did not finish loading within {limit:.3g} s"
        function.failed(version, message, message, time.monotonic())
        return LoadFailed(message, message)

    def _give_back(self, pod: Pod) -> None:
        if pod.state is PodState.ACTIVATING:
            self._fleet.stock.step(pod, PodEvent.RELEASED)

    def _refuse_broken(self, function: Function, version: pb.FunctionVersion) -> None:
        failure = function.failure
        if failure is not None and function.broken(version) and time.monotonic() < failure.until:
            raise LoadFailed(failure.message, failure.detail)

    def _load_failed(
        self, function: Function, version: pb.FunctionVersion, failed: pb.LoadFailed
    ) -> LoadFailed:
        detail = failed.stack if failed.message in failed.stack else ""
        detail = detail or f"{failed.message}\n{failed.stack}".rstrip()
        function.failed(version, failed.message, detail, time.monotonic())
        return LoadFailed(failed.message, detail)

    def _serve(self, function: Function, pod: Pod, loaded: pb.PodLoaded, began: float) -> None:
        metrics.STEP_SECONDS.labels("fetch").observe(loaded.fetch_ms / 1000)
        metrics.STEP_SECONDS.labels("load").observe(loaded.load_ms / 1000)
        function.activations += 1
        function.last_activation_ms = (time.monotonic() - began) * 1000
        if not function.serving:
            function.last_cold_ms = function.last_activation_ms
            function.last_cold_at_ms = round(time.time() * 1000)
        function.failure = None
        pod.address = loaded.address
        self._fleet.stock.step(pod, PodEvent.LOADED)
        self._functions.serve(function, pod)
