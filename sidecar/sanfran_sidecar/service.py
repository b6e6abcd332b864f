"""The gRPC face of a pod: checks messages, translates errors, decides nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import aclosing

from sanfran_proto.sanfran import v1 as pb

from sanfran_sidecar.edge import translated
from sanfran_sidecar.errors import BadRequest
from sanfran_sidecar.pod import Pod

DIGEST = re.compile(r"[0-9a-f]{64}")


class Sidecar(pb.SidecarBase):
    """The `Sidecar` service of one pod."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod

    async def activate(self, message: pb.ActivatePodRequest) -> pb.ActivatePodResponse:
        """See sidecar.proto; ABORTED: the pod died meanwhile and is gone."""
        with translated():
            function = _checked(message)
            done = await self._pod.activate(message.activation_id, function, message.bundle)
        if done.error is not None:
            failed = pb.LoadFailed(message=done.error.message, stack=done.error.stack)
            return pb.ActivatePodResponse(failed=failed)
        loaded = pb.PodLoaded(address=done.address, fetch_ms=done.fetch_ms, load_ms=done.load_ms)
        return pb.ActivatePodResponse(loaded=loaded)

    async def drain(self, message: pb.DrainRequest) -> pb.DrainResponse:
        """See sidecar.proto; DEADLINE_EXCEEDED: a handler holds the runtime's event loop."""
        with translated():
            return pb.DrainResponse(in_flight=await self._pod.drain(message.activation_id))

    async def recycle(self, message: pb.RecycleRequest) -> pb.PodState:
        """See sidecar.proto; ABORTED: the pod died meanwhile and is gone."""
        with translated():
            await self._pod.recycle(message.activation_id, message.grace_ms / 1000)
        state = self._pod.state()
        state.last_words = self._pod.last_words()
        return state

    async def get_state(self, message: pb.GetStateRequest) -> pb.PodState:
        """See sidecar.proto."""
        return self._pod.state()

    async def watch_state(self, message: pb.GetStateRequest) -> AsyncIterator[pb.PodState]:
        """See sidecar.proto. A slow reader gets the newest state, not each one between."""
        with self._pod.readers:
            async with aclosing(self._pod.watch()) as states:
                async for state in states:
                    yield state

    async def stream_logs(self, message: pb.PodLogsRequest) -> AsyncIterator[pb.LogLine]:
        """Lines of the present or last activation; with `follow` until it is over."""
        with self._pod.readers:
            lines = self._pod.logs(follow=message.follow, tail=message.tail)
            async with aclosing(lines) as found:
                async for line in found:
                    yield line


def _checked(message: pb.ActivatePodRequest) -> pb.FunctionVersion:
    function = message.function
    if not message.activation_id:
        raise BadRequest("activation_id: is empty")
    if function is None:
        raise BadRequest("function: is missing")
    if not function.name or not function.version:
        raise BadRequest("function: has no name or no version")
    if not DIGEST.fullmatch(function.digest):
        raise BadRequest("function.digest: is not a SHA-256 in lowercase hexadecimal digits")
    parts = function.entry.split("/")
    if not all(parts) or ".." in parts or "." in parts:
        raise BadRequest("function.entry: is not a path relative to the bundle's root")
    return function
