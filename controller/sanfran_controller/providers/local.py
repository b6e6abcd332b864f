"""Pods of a pod host on this machine, over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from grpclib import GRPCError, Status
from sanfran_common.rpc.client import RpcClient
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_controller.providers import (
    ControllerSeen,
    ControllersListed,
    NameHeld,
    PodNews,
    PodSeen,
    PodsListed,
    PodVanished,
    ProviderError,
    ProviderFull,
)
from sanfran_controller.streams import reading

log = get_logger("pods")

CREATE_TIMEOUT = 5.0
"""Seconds; the host answers when the pod exists, before its process is ready."""
DELETE_TIMEOUT = 5.0
RENEW_TIMEOUT = 1.0
ADOPT_TIMEOUT = 2.0
LEASE = 5.0
"""Seconds that a controller may be silent until others take its pods: several renewals, and more than a busy
machine holds a process up."""
RECONNECT_FIRST, RECONNECT_MOST = 0.05, 0.25


class LocalPods:
    """A `PodProvider` on the contract `PodHost`.

    Args:
        client: of the pod host; whoever made it closes it.
        owner: the controller's name, written to its pods.
        process: unique to this process, which follows on others of the same name.
    """

    def __init__(self, client: RpcClient, *, owner: str, process: str) -> None:
        self._host = pb.PodHostStub(client.channel)
        self._owner = owner
        self._process = process

    async def create(self, name: str) -> None:
        """See `PodProvider.create`."""
        request = pb.CreatePodRequest(name=name, controller=self._owner, process=self._process)
        try:
            await self._host.create_pod(request, timeout=CREATE_TIMEOUT)
        except GRPCError as error:
            full = error.status is Status.RESOURCE_EXHAUSTED
            kind = ProviderFull if full else ProviderError
            raise kind(f"{error.status.name}: {error.message}") from error

    async def delete(self, name: str) -> None:
        """See `PodProvider.delete`."""
        request = pb.DeletePodRequest(name=name, controller=self._owner, process=self._process)
        try:
            await self._host.delete_pod(request, timeout=DELETE_TIMEOUT)
        except GRPCError as error:
            if error.status is not Status.FAILED_PRECONDITION:  # which says that it is not ours
                raise ProviderError(f"{error.status.name}: {error.message}") from error

    def describe(self, name: str, function: str, version: int) -> None:
        """See `PodProvider.describe`: nobody looks at a pod here but through its sidecar."""

    async def renew(self, address: str) -> None:
        """See `PodProvider.renew`."""
        request = pb.RenewLeaseRequest(
            controller=self._owner,
            process=self._process,
            address=address,
            ttl_ms=round(LEASE * 1000),
        )
        try:
            await self._host.renew_lease(request, timeout=RENEW_TIMEOUT)
        except GRPCError as error:
            kind = NameHeld if error.status is Status.ALREADY_EXISTS else ProviderError
            raise kind(f"{error.status.name}: {error.message}") from error

    async def adopt(self, pod: PodSeen) -> None:
        """See `PodProvider.adopt`."""
        request = pb.AdoptPodRequest(
            name=pod.name, term=pod.term, controller=self._owner, process=self._process
        )
        try:
            await self._host.adopt_pod(request, timeout=ADOPT_TIMEOUT)
        except GRPCError as error:
            raise ProviderError(f"{error.status.name}: {error.message}") from error

    async def watch(self) -> AsyncGenerator[PodNews]:
        """See `PodProvider.watch`."""
        pause = RECONNECT_FIRST
        while True:
            try:
                async with aclosing(self._watch_once()) as news:
                    async for one in news:
                        pause = RECONNECT_FIRST
                        yield one
                why = "the host ended the watch"
            except GRPCError as error:
                why = f"{error.status.name}: {error.message}"
            tell = log.warning if pause == RECONNECT_FIRST else log.debug
            tell("pod host lost, connecting again", why=why, pause=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, RECONNECT_MOST)

    async def _watch_once(self) -> AsyncGenerator[PodNews]:
        listed: dict[str, PodSeen] | None = {}
        request = pb.WatchPodsRequest(controller=self._owner, process=self._process)
        async with reading(self._host.watch_pods(request)) as events:
            async for event in events:
                if event.put is not None:
                    seen = _seen(event.put)
                    if listed is None:
                        yield seen
                    else:
                        listed[seen.name] = seen
                elif event.gone is not None:
                    if listed is None:
                        yield PodVanished(event.gone)
                    else:
                        listed.pop(event.gone, None)
                elif event.controllers is not None:
                    yield _live(event.controllers)
                elif event.synced is not None and listed is not None:
                    yield PodsListed(tuple(listed.values()))
                    listed = None


def _seen(pod: pb.Pod) -> PodSeen:
    # Its sidecar answers from the moment that its address is told; its process is ready later.
    answers = bool(pod.sidecar_address)
    return PodSeen(pod.name, pod.controller, pod.sidecar_address, answers, pod.term)


def _live(live: pb.LiveControllers) -> ControllersListed:
    return ControllersListed(
        tuple(ControllerSeen(one.name, one.address, one.watches) for one in live.controllers)
    )
