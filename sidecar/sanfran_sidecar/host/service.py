"""The gRPC face of the pod host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from sanfran_proto.sanfran import v1 as pb

from sanfran_sidecar.edge import translated
from sanfran_sidecar.host.owners import Owners
from sanfran_sidecar.host.pods import HostedPods


class PodHost(pb.PodHostBase):
    """The `PodHost` service; see pods.proto."""

    def __init__(self, pods: HostedPods) -> None:
        self._pods = pods
        self._owners = Owners(pods)

    async def create_pod(self, message: pb.CreatePodRequest) -> pb.Pod:
        """See pods.proto. ALREADY_EXISTS: the name belongs to another controller's pod."""
        with translated():
            self._owners.must_live(message.controller, message.process)
            return await self._pods.create(message.name, message.controller)

    async def delete_pod(self, message: pb.DeletePodRequest) -> pb.DeletePodResponse:
        """See pods.proto; answers when nothing is left of the pod."""
        with translated():
            self._owners.must_own(message.name, message.controller, message.process)
            await self._pods.delete(message.name)
        return pb.DeletePodResponse()

    async def renew_lease(self, message: pb.RenewLeaseRequest) -> pb.RenewLeaseResponse:
        """See pods.proto."""
        with translated():
            self._owners.renew(
                message.controller, message.process, message.address, message.ttl_ms / 1000
            )
        return pb.RenewLeaseResponse()

    async def adopt_pod(self, message: pb.AdoptPodRequest) -> pb.Pod:
        """See pods.proto."""
        with translated():
            return self._owners.adopt(
                message.name, message.term, message.controller, message.process
            )

    async def watch_pods(self, message: pb.WatchPodsRequest) -> AsyncIterator[pb.PodEvent]:
        """See pods.proto. A slow reader gets the newest state of each pod."""
        with translated():
            async with aclosing(self._owners.watch(message.controller, message.process)) as events:
                async for event in events:
                    yield event
