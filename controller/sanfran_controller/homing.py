"""Hands functions back to the controllers that they belong to.

A router that cannot reach a function's home asks another controller, and one that lives again gets its
functions back. So a function may be served by two for a moment. The one that is not its home has the home
activate it, as a router would, and then withdraws its own pods as in any scaling down: no request is lost.
"""

from __future__ import annotations

import asyncio
import time

from grpclib import GRPCError
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.tls import ClientTls
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_controller import metrics
from sanfran_controller.catalog import Catalog
from sanfran_controller.functions import Function, Functions
from sanfran_controller.ownership import Ownership
from sanfran_controller.providers import ControllerSeen

log = get_logger("homing")

EVERY = 1.0
PAUSE = 0.1
"""Seconds between two functions: each costs its home a pod, and cold calls need those too."""
ASK_TIMEOUT = 2.0
USED_WITHIN = 5.0
"""Seconds. One that nobody calls any more ends by its idle timeout; its home need not start for that."""


class Homing:
    """`run` does it.

    Args:
        ownership: knows the homes.
        secret: for calls to other controllers.
        tls: for connections to them.
    """

    def __init__(
        self,
        catalog: Catalog,
        functions: Functions,
        ownership: Ownership,
        *,
        secret: str,
        tls: ClientTls | None,
    ) -> None:
        self._catalog = catalog
        self._functions = functions
        self._ownership = ownership
        self._secret = secret
        self._tls = tls

    async def run(self) -> None:
        """Runs for ever."""
        while True:
            await asyncio.sleep(EVERY)
            astray: dict[ControllerSeen, list[str]] = {}
            if len(self._ownership.controllers) > 1:
                for name in self._functions.warm:
                    home = self._ownership.home(name)
                    if home is not None and home.watches:
                        astray.setdefault(home, []).append(name)
            for home, names in astray.items():
                await self._hand_back(home, names)

    async def _hand_back(self, home: ControllerSeen, names: list[str]) -> None:
        async with RpcClient(home.address, secret=self._secret, tls=self._tls) as client:
            for name in names:
                function = self._functions.warm.get(name)
                if function is None or not self._movable(function):
                    continue
                if self._ownership.home(name) != home:
                    return  # controllers came or went
                try:
                    await self._move(function, pb.ControllerStub(client.channel))
                except GRPCError as error:
                    log.debug("not handed back", function=name, to=home.name, why=str(error))
                    return
                await asyncio.sleep(PAUSE)

    async def _move(self, function: Function, home: pb.ControllerStub) -> None:
        request = pb.ActivateFunctionRequest(
            name=function.name, router=self._ownership.name, authorized=True
        )
        route = await home.activate(request, timeout=ASK_TIMEOUT)
        wanted = self._wanted(function)
        while len(route.endpoints) < wanted:
            request.saturated = True
            more = await home.activate(request, timeout=ASK_TIMEOUT)
            if len(more.endpoints) <= len(route.endpoints):
                break
            route = more
        current = self._catalog.get(function.name)
        if current is None or route.version != current.version or not self._movable(function):
            return
        pods = list(function.serving.values())
        log.info("handed back", function=function.name, pods=len(pods))
        metrics.DECISIONS.labels("hand_back", "home").inc(len(pods))
        self._functions.withdraw(function, pods)

    def _movable(self, function: Function) -> bool:
        """Whether nothing else happens to it, and somebody calls it."""
        if function.reconciling is not None or function.flights or not function.serving:
            return False
        return function.scaler.quiet_for(time.monotonic()) < USED_WITHIN

    def _wanted(self, function: Function) -> int:
        concurrency = max(self._functions.settings(function.name).concurrency, 1)
        needed = function.scaler.needed(concurrency, time.monotonic())
        return max(min(needed, len(function.serving)), 1)
