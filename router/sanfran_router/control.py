"""The controllers' side: routes come in, load goes out, activations are asked for."""

from __future__ import annotations

import asyncio
import random
from math import inf
from time import monotonic

from grpclib import GRPCError, Status
from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.rpc.client import RpcClient
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_router import errors
from sanfran_router.activation import Activator
from sanfran_router.errors import Refusal
from sanfran_router.function import EndpointFacts, Function, RouteFacts
from sanfran_router.table import Table

log = get_logger("control")

REPORT_EVERY = 1.0
REPORT_TIMEOUT = 1.0
REPORTED_AT_ONCE = 100
"""Functions in one part of a report; encoding them takes some 2 ms, and requests come in between."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds between attempts to reach a controller; doubling, with jitter."""
FORGET_AFTER = 60.0
"""Seconds until the routes of an address that has left DNS are dropped; its pods have been adopted
by then, or are gone."""
FAILOVERS = 3
"""Controllers asked for one activation."""
ABSENCE_PATIENCE = 5.0
"""Seconds that a cold request waits for a controller that is away: what a restart may take."""
ASK_PAUSE = 0.1
"""Seconds between two questions then."""
ANSWER_PATIENCE = 2.0
"""Seconds until the question is put again, for one that hangs may have been found out by then: elsewhere, or to the
same controller, where it joins the activation under way."""


def route_facts(route: pb.Route) -> RouteFacts:
    """What the table takes in of a message."""
    return RouteFacts(
        name=route.name,
        controller=route.controller,
        sequence=route.sequence,
        version=route.version,
        timeout=route.timeout_ms / 1000,
        concurrency=route.concurrency,
        body_limit=route.body_limit,
        private=route.private,
        endpoints=tuple(
            EndpointFacts(address=one.address, activation_id=one.activation_id)
            for one in route.endpoints
        ),
        deleted=route.deleted,
        early=route.early and len(route.endpoints) == 1,
    )


def _refusal(request: pb.ActivateFunctionRequest, error: GRPCError) -> Refusal:
    if error.status is Status.NOT_FOUND:
        return Refusal(errors.NOT_FOUND)
    if error.status is Status.FAILED_PRECONDITION:
        return Refusal(errors.LOAD_FAILED)
    # That a busy function cannot have one more pod is no trouble: its requests wait for a place.
    say = log.debug if request.saturated else log.warning
    say("not activated", function=request.name, status=error.status.name, error=error.message)
    return Refusal(errors.NO_CAPACITY)


class ControllerLink:
    """Follows every controller.

    Args:
        client: the controllers.
        router: this process's id.
    """

    def __init__(self, client: RpcClient, table: Table, router: str) -> None:
        self._client = client
        self.table = table
        self._router = router
        self._activator: Activator | None = None
        self.synced = asyncio.Event()
        """Set once a controller has told all of its routes."""

    async def ask(self, name: str, saturated: bool, early: bool, timeout: float) -> RouteFacts:
        """Asks the function's controller to activate it; the next one when that is not there or has nothing to do it
        with, and again for as long as one may take to be restarted: asking twice activates once.

        Args:
            saturated: for one more pod.
            early: one that still loads will do.
            timeout: seconds for all of it.

        Raises:
            Refusal: with what the waiting requests are to be answered.
        """
        # Of a private function only those wait who may call it.
        function = self.table.functions.get(name)
        request = pb.ActivateFunctionRequest(
            name=name,
            router=self._router,
            saturated=saturated,
            early=early,
            authorized=function is not None and function.private,
        )
        deadline = monotonic() + timeout
        tries, away = 0, inf  # questions in a row that nobody took, and since when
        rank = 0  # controllers in a row that had nothing to do it with
        while True:
            asked, pause = monotonic(), False
            stub = pb.ControllerStub(self._client.keyed(name, rank))
            try:
                limit = max(min(deadline - asked, ANSWER_PATIENCE), 0.001)
                route = await stub.activate(request, timeout=limit)
            except GRPCError as error:
                give_up = deadline
                if error.status is Status.UNAVAILABLE:
                    tries, away, rank = tries + 1, min(away, asked), 0
                    give_up = min(deadline, away + ABSENCE_PATIENCE)
                    pause = tries >= FAILOVERS
                elif error.status is Status.ABORTED:
                    tries, away, rank = 0, inf, rank + 1
                    pause = rank == len(self._client.each())
                elif error.status is Status.DEADLINE_EXCEEDED:
                    tries, away = 0, inf
                else:
                    give_up = 0.0
                if (left := give_up - monotonic()) <= 0:
                    raise _refusal(request, error) from error
                if pause:
                    rank = 0
                    await asyncio.sleep(min(ASK_PAUSE, left))
                continue
            if route.name != name:
                log.error("answer for another function", asked=name, answered=route.name)
                raise Refusal(errors.NO_CAPACITY)
            return route_facts(route)

    async def watch(self, tasks: OwnedTasks, activator: Activator) -> None:
        """Follows the routes of every controller, as addresses come and go. Does not end."""
        self._activator = activator
        following: dict[str, asyncio.Task[None]] = {}
        forgetting: dict[str, asyncio.Task[None]] = {}
        while True:
            addresses = set(self._client.each())
            for address in addresses - following.keys():
                if address in forgetting:
                    forgetting.pop(address).cancel()
                following[address] = tasks.spawn(self._follow(address), name=f"watch {address}")
            for address in following.keys() - addresses:
                following.pop(address).cancel()
                forgetting[address] = tasks.spawn(self._forget(address), name=f"forget {address}")
            await self._client.wait_changed()

    async def _follow(self, address: str) -> None:
        pause = FIRST_PAUSE
        while True:
            sync = self.table.begin_sync(address)
            stub = pb.ControllerStub(self._client.at(address))
            try:
                async for event in stub.watch_routes(pb.WatchRoutesRequest(router=self._router)):
                    pause = FIRST_PAUSE
                    if event.route is not None:
                        self._changed([sync.route(route_facts(event.route))])
                    elif event.synced is not None:
                        self._changed(sync.synced(event.synced.controller))
                        log.info("routes synced", controller=event.synced.controller, at=address)
                        self.synced.set()
            except GRPCError as error:
                log.debug("watch ended", at=address, status=error.status.name)
            # What it told stays: its pods serve on while it is away.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _forget(self, address: str) -> None:
        await asyncio.sleep(FORGET_AFTER)
        self._changed(self.table.forget_source(address))

    def _changed(self, functions: list[Function]) -> None:
        assert self._activator is not None
        for function in functions:
            if function.waiting:
                self._activator.dispatch(function)

    async def report(self) -> None:
        """Tells every controller the load, every second. Does not end."""
        while True:
            await asyncio.sleep(REPORT_EVERY)
            await self.report_once()

    async def report_once(self, *, leaving: bool = False) -> None:
        """Tells every controller the load since the last report."""
        busy = list(self.table.busy)
        starts = range(0, len(busy), REPORTED_AT_ONCE) or (0,)
        addresses = list(self._client.each())
        for part, start in enumerate(starts):
            end = start + REPORTED_AT_ONCE
            loads = [self._load(function) for function in busy[start:end]]
            report = pb.LoadReport(
                router=self._router,
                functions=loads,
                leaving=leaving,
                part=part,
                more=end < len(busy),
            )
            told = await asyncio.gather(*(self._send(at, report) for at in addresses))
            # One that hangs must not hold up what the others are told.
            addresses = [at for at, heard in zip(addresses, told, strict=True) if heard]

    async def _send(self, address: str, report: pb.LoadReport) -> bool:
        stub = pb.ControllerStub(self._client.at(address))
        try:
            await stub.report_load(report, timeout=REPORT_TIMEOUT)
        except GRPCError as error:
            log.debug("load not reported", at=address, status=error.status.name)
            if error.status is Status.DEADLINE_EXCEEDED:
                self._client.suspect(address)
            return False
        return True

    def _load(self, function: Function) -> pb.FunctionLoad:
        traffic = function.traffic
        queued = len(function.waiting)
        load = pb.FunctionLoad(
            name=function.name,
            in_flight=function.in_flight,
            queued=queued,
            requests=traffic.requests - traffic.reported,
            peak_in_flight=traffic.peak,
        )
        traffic.reported = traffic.requests
        traffic.peak = function.in_flight + queued
        if not traffic.peak:
            self.table.busy.discard(function)
        return load
