"""The gRPC service `Controller`: the edge where errors become statuses."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial

from grpclib import GRPCError, Status
from sanfran_common.lifecycle import TaskOwner
from sanfran_proto.sanfran import v1 as pb

from sanfran_controller import logs
from sanfran_controller.activation import Activator
from sanfran_controller.catalog import Catalog
from sanfran_controller.errors import (
    ActivationError,
    Barren,
    FunctionNotFound,
    LoadFailed,
    NoCapacity,
    Unavailable,
)
from sanfran_controller.fleet import Fleet
from sanfran_controller.functions import Functions
from sanfran_controller.load import Loads
from sanfran_controller.pods import Pod
from sanfran_controller.pool_status import pool_status
from sanfran_controller.routes import Routes, WatcherTooSlow
from sanfran_controller.states import PodState

STATUS: dict[type[ActivationError], Status] = {
    FunctionNotFound: Status.NOT_FOUND,
    LoadFailed: Status.FAILED_PRECONDITION,
    NoCapacity: Status.RESOURCE_EXHAUSTED,
    Barren: Status.ABORTED,
    Unavailable: Status.UNAVAILABLE,
}
MESSAGE_MOST = 2000
"""Characters of a status message, which travels in a header; the rest is in GetStatus."""


class ControllerService(TaskOwner, pb.ControllerBase):
    """Answers routers and the api service. Owns the readers of followed logs; open it with
    `async with`."""

    def __init__(
        self,
        activator: Activator,
        catalog: Catalog,
        functions: Functions,
        fleet: Fleet,
        routes: Routes,
        loads: Loads,
    ) -> None:
        super().__init__("controller service")
        self._activator = activator
        self._catalog = catalog
        self._functions = functions
        self._fleet = fleet
        self._routes = routes
        self._loads = loads

    async def activate(self, message: pb.ActivateFunctionRequest) -> pb.Route:
        """See the contract."""
        try:
            return await self._activator.activate(
                message.name,
                saturated=message.saturated,
                early=message.early,
                authorized=message.authorized,
            )
        except ActivationError as error:
            raise GRPCError(STATUS[type(error)], str(error)[:MESSAGE_MOST]) from error

    async def watch_routes(self, message: pb.WatchRoutesRequest) -> AsyncIterator[pb.RouteEvent]:
        """See the contract."""
        try:
            async with aclosing(self._routes.watch()) as events:
                async for event in events:
                    yield event
        except WatcherTooSlow as error:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, str(error)) from error

    async def report_load(self, message: pb.LoadReport) -> pb.LoadReportResponse:
        """See the contract."""
        now = time.monotonic()
        self._loads.report(message, now)
        for load in message.functions:
            function = self._functions.peek(load.name)
            if function is not None and (load.requests or load.in_flight or load.queued):
                function.scaler.used(now)
                function.calls += load.requests
        return pb.LoadReportResponse()

    async def get_status(self, message: pb.GetStatusRequest) -> pb.FunctionStatus:
        """See the contract. A function that this controller never met has an empty status."""
        return self._status(message.name, self._pods_of(message.name))

    async def get_statuses(self, message: pb.GetStatusesRequest) -> pb.FunctionStatuses:
        """See the contract."""
        pods: dict[str, list[Pod]] = {name: [] for name in message.names}
        for pod in self._fleet.pods.values():
            if pod.activation is not None and pod.activation.function.name in pods:
                pods[pod.activation.function.name].append(pod)
        return pb.FunctionStatuses([self._status(name, of) for name, of in pods.items()])

    async def get_pool(self, message: pb.GetPoolRequest) -> pb.PoolStatus:
        """See the contract."""
        warm = len(self._functions.warm)
        return pool_status(self._routes.controller, self._fleet, warm, message.decisions)

    def _status(self, name: str, pods: list[Pod]) -> pb.FunctionStatus:
        in_flight, queued = self._loads.now(name)
        status = pb.FunctionStatus(name=name, in_flight=in_flight, queued=queued)
        for pod in pods:
            assert pod.activation is not None
            status.pods.append(
                pb.PodStatus(
                    pod=pod.name,
                    state=pod.state.value,
                    version=pod.activation.function.version,
                    address=pod.address if pod.state is not PodState.ACTIVATING else "",
                )
            )
        function = self._functions.peek(name)
        if function is not None:
            status.activations = function.activations
            status.last_activation_ms = function.last_activation_ms
            status.last_cold_ms = function.last_cold_ms
            status.last_cold_at_ms = function.last_cold_at_ms
            status.calls = function.calls
            failure = function.failure
            if failure is not None and failure.version is self._catalog.get(name):
                status.load_error = failure.detail
        return status

    async def stream_logs(self, message: pb.StreamLogsRequest) -> AsyncIterator[pb.LogLine]:
        """See the contract."""
        name = message.name
        words = self._functions.last_words.of(name)
        if not message.follow:
            for line in await logs.past(self._pods_of(name), words, message.tail):
                yield line
            return
        pods = partial(self._pods_of, name)
        lines = logs.follow(name, pods, words, message.tail, self._routes, self._tasks)
        async with aclosing(lines):
            async for line in lines:
                yield line

    def _pods_of(self, name: str) -> list[Pod]:
        return [
            pod
            for pod in self._fleet.pods.values()
            if pod.activation is not None and pod.activation.function.name == name
        ]
