"""Whose each pod is: controllers that live, their watches, and pods that change hands."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_sidecar.errors import BadRequest, NotOwner
from sanfran_sidecar.host.leases import Leases
from sanfran_sidecar.host.pods import HostedPods, Watcher

log = get_logger("owners")

TTL_LEAST = 0.1
"""Seconds; a lease that never runs would keep a name."""


class Owners:
    """The record of ownership. It is as old as the host's process, and so are the pods."""

    def __init__(self, pods: HostedPods) -> None:
        self._pods = pods
        self._leases = Leases()
        self._watchers: dict[Watcher, tuple[str, str]] = {}  # with name and process
        self._told = pb.LiveControllers()

    def renew(self, controller: str, process: str, address: str, ttl: float) -> None:
        """See `RenewLease` in pods.proto. Seconds.

        Leases that ran out are noticed here too: while nobody renews, nobody is there to be told.

        Raises:
            BadRequest: something is missing.
            NameTaken: another process of that name lives.
        """
        if not controller or not process:
            raise BadRequest("controller, process: who?")
        follows = self._leases.renew(
            controller, process, address, max(ttl, TTL_LEAST), time.monotonic()
        )
        if follows:
            log.info("controller replaced", controller=controller, process=process)
            # The former first: it must not learn of the new terms.
            for watcher, who in self._watchers.items():
                if who[0] == controller and who[1] != process:
                    watcher.end(NotOwner(f"{controller} is another process now"))
            for hosted in self._pods.owned_by(controller):
                self._pods.hand_over(hosted, controller)
        self._connections_changed(controller, process)

    def must_live(self, controller: str, process: str) -> None:
        """Passes who holds its lease.

        Raises:
            NotOwner: the caller does not.
        """
        if process and not self._leases.holds(controller, process):
            raise NotOwner(f"{process} does not hold the lease of {controller}")

    def must_own(self, pod: str, controller: str, process: str) -> None:
        """Passes the owner of a pod.

        Raises:
            NotOwner: the pod, if there is one, is not the caller's.
        """
        hosted = self._pods.get(pod)
        if not process or hosted is None:
            return
        if hosted.controller != controller or self._leases.superseded(controller, process):
            raise NotOwner(f"pod {pod} belongs to {hosted.controller}")

    def adopt(self, name: str, term: int, controller: str, process: str) -> pb.Pod:
        """See `AdoptPod` in pods.proto.

        Raises:
            NotOwner: it may not be taken.
        """
        self.must_live(controller, process)
        hosted = self._pods.get(name)
        if hosted is None or hosted.term != term:
            raise NotOwner(f"pod {name} is gone, or has changed hands")
        if self._leases.lives(hosted.controller):
            raise NotOwner(f"pod {name} belongs to {hosted.controller}, which lives")
        log.info("pod adopted", pod=name, of=hosted.controller, by=controller)
        self._pods.hand_over(hosted, controller)
        return hosted.message()

    async def watch(self, controller: str, process: str) -> AsyncGenerator[pb.PodEvent, None]:
        """See `HostedPods.watch`, with the controllers that live.

        Raises:
            NotOwner: another process of the caller's name holds its lease.
        """
        if process and self._leases.superseded(controller, process):
            raise NotOwner(f"{controller} is another process now")
        watcher = Watcher()
        if self._told.controllers:
            watcher.controllers(self._told)
        self._watchers[watcher] = (controller, process)
        self._connections_changed(controller, process)
        try:
            async with aclosing(self._pods.watch(watcher)) as events:
                async for event in events:
                    yield event
        finally:
            del self._watchers[watcher]
            self._connections_changed(controller, process)

    def _connections_changed(self, controller: str, process: str) -> None:
        streams = sum(who == (controller, process) for who in self._watchers.values())
        self._leases.connected(controller, process, streams)
        live = pb.LiveControllers(
            controllers=[
                pb.LiveController(name=one.name, address=one.address, watches=one.streams > 0)
                for one in self._leases.live()
            ]
        )
        if live != self._told:
            self._told = live
            for watcher in self._watchers:
                watcher.controllers(live)
