"""Carries out what the api service announces: new versions and deletions.

A new version is activated first; only then the old pods leave the route and are fenced. The event
is acknowledged when every old pod refuses new requests, so a request that begins after that never meets
an older version. This holds too when the new version does not load, or no pod can be had for it:
the newest version is authoritative.

Events of one function are carried out in order, and several at once when more came meanwhile: what
counts is the newest. Events of different functions do not wait for each other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from sanfran_common.lifecycle import TaskOwner
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_controller.activation import Activator
from sanfran_controller.bundles import SmallBundles
from sanfran_controller.catalog import Catalog
from sanfran_controller.fleet import Fleet
from sanfran_controller.functions import Function, Functions
from sanfran_controller.routes import Routes

log = get_logger("updates")

ACTIVATE_PATIENCE = 5.0
"""Seconds for pods of the new version. After that the old ones leave all the same: at the cap of pods
they may be what it waits for."""

Ack = Callable[[], None]


class Updates(TaskOwner):
    """Changes the catalog and what serves. Runs while its `async with` lasts."""

    def __init__(
        self,
        catalog: Catalog,
        functions: Functions,
        fleet: Fleet,
        routes: Routes,
        activator: Activator,
        bundles: SmallBundles,
    ) -> None:
        super().__init__("updates")
        self._catalog = catalog
        self._functions = functions
        self._fleet = fleet
        self._routes = routes
        self._activator = activator
        self._bundles = bundles

    def put(self, version: pb.FunctionVersion, ack: Ack) -> None:
        """A version is the newest from now on; `ack` is called when nothing older serves."""
        known = self._catalog.get(version.name)
        if self._catalog.put(version):
            if self._catalog.synced.is_set():
                # New right now, so likely to be called soon.
                self._bundles.want(version)
                if known is None:
                    # It may have existed before, and routers were told that it was deleted.
                    self._routes.publish(version, ())
            if self._functions.settings(version.name).min_scale:
                self._functions.disturb(version.name)
        function = self._functions.peek(version.name)
        if function is None:
            ack()
        else:
            self._reconcile(function, ack)

    def deleted(self, name: str, ack: Ack) -> None:
        """A function does not exist any more; `ack` is called when nothing serves it."""
        self._catalog.remove(name)
        self._fleet.stock.drop_claims(name)
        function = self._functions.peek(name)
        if function is None:
            self._routes.publish_deleted(name)
            ack()
        else:
            self._functions.withdraw(function, list(function.serving.values()), deleted=True)
            self._reconcile(function, ack)

    def _reconcile(self, function: Function, ack: Ack) -> None:
        self._functions.revoke(function)
        settled = not function.fences and not self._functions.stale(function)
        if settled and function.reconciling is None:
            ack()
            self._functions.forget(function)
            return
        function.acks.append(ack)
        if function.reconciling is None:
            function.reconciling = self._tasks.spawn(
                self._carry_out(function), name=f"update {function.name}"
            )

    async def _carry_out(self, function: Function) -> None:
        while function.acks:
            acks, function.acks = function.acks, []
            if stale := self._functions.stale(function):
                await self._activate_newest(function, len(stale))
                self._functions.withdraw(function, self._functions.stale(function))
            while function.fences:
                await asyncio.wait(set(function.fences))
            for ack in acks:
                ack()
        function.reconciling = None
        self._functions.disturb(function.name)
        self._functions.forget(function)

    async def _activate_newest(self, function: Function, replaced: int) -> None:
        """Waits until as many pods as demand needs run the newest version, or cannot be had."""
        settings = self._functions.settings(function.name)
        needed = function.scaler.needed(max(settings.concurrency, 1), time.monotonic())
        want = max(min(needed, replaced, settings.max_scale or replaced), 1)
        flights = self._activator.ensure(function, want)
        if flights:
            await asyncio.wait(flights, timeout=ACTIVATE_PATIENCE)
        got = len(self._functions.fresh(function))
        log.info("updated", function=function.name, pods=got, wanted=want, replaced=replaced)
