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
RECONNECT_FIRST, RECONNECT_MOST = 0.05, 0.25


class LocalPods:
    """A `PodProvider` on the contract `PodHost`.

    Args:
        client: of the pod host; whoever made it closes it.
        creator: the controller's name, written to the pods that it creates.
    """

    def __init__(self, client: RpcClient, *, creator: str) -> None:
        self._host = pb.PodHostStub(client.channel)
        self._creator = creator

    async def create(self, name: str) -> None:
        """See `PodProvider.create`."""
        request = pb.CreatePodRequest(name=name, controller=self._creator)
        try:
            await self._host.create_pod(request, timeout=CREATE_TIMEOUT)
        except GRPCError as error:
            full = error.status is Status.RESOURCE_EXHAUSTED
            kind = ProviderFull if full else ProviderError
            raise kind(f"{error.status.name}: {error.message}") from error

    async def delete(self, name: str) -> None:
        """See `PodProvider.delete`."""
        try:
            await self._host.delete_pod(pb.DeletePodRequest(name=name), timeout=DELETE_TIMEOUT)
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
        async with reading(self._host.watch_pods(pb.WatchPodsRequest())) as events:
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
                elif event.synced is not None and listed is not None:
                    yield PodsListed(tuple(listed.values()))
                    listed = None


def _seen(pod: pb.Pod) -> PodSeen:
    return PodSeen(pod.name, pod.controller, pod.sidecar_address, pod.ready)
