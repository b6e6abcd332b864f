"""The gRPC face of the pod host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from sanfran_proto.sanfran import v1 as pb

from sanfran_sidecar.edge import translated
from sanfran_sidecar.host.pods import HostedPods


class PodHost(pb.PodHostBase):
    """The `PodHost` service; see pods.proto."""

    def __init__(self, pods: HostedPods) -> None:
        self._pods = pods

    async def create_pod(self, message: pb.CreatePodRequest) -> pb.Pod:
        """See pods.proto. ALREADY_EXISTS: the name belongs to another controller's pod."""
        with translated():
            return await self._pods.create(message.name, message.controller)

    async def delete_pod(self, message: pb.DeletePodRequest) -> pb.DeletePodResponse:
        """See pods.proto; answers when nothing is left of the pod."""
        with translated():
            await self._pods.delete(message.name)
        return pb.DeletePodResponse()

    async def watch_pods(self, message: pb.WatchPodsRequest) -> AsyncIterator[pb.PodEvent]:
        """See pods.proto. A slow reader gets the newest state of each pod."""
        async with aclosing(self._pods.watch()) as events:
            async for event in events:
                yield event
