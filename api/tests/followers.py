"""Watchers of functions as controllers are, whose answers a test decides."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from grpclib.client import Channel
from grpclib.const import Cardinality
from sanfran_common.rpc.channel import open_channel
from sanfran_proto.sanfran import v1 as pb

METHOD = "/sanfran.v1.Api/WatchFunctions"


class EndOfStream(Exception):
    """Takes the place of the status, which grpclib raises when the stream is left."""


class Follower:
    """A watcher as a controller is one, whose answers the test decides."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def event(self) -> pb.FunctionEvent:
        async with asyncio.timeout(5):
            event = await self._stream.recv_message()
        if event is None:
            raise EndOfStream
        return event

    async def until_synced(self) -> tuple[list[pb.FunctionEvent], pb.FunctionEvent]:
        before: list[pb.FunctionEvent] = []
        while (event := await self.event()).synced is None:
            before.append(event)
        return before, event

    async def applied(self, revision: int) -> None:
        applied = pb.WatchApplied(revision=revision)
        await self._stream.send_message(pb.WatchFunctionsRequest(applied=applied))

    async def live(self, *controllers: str) -> None:
        live = pb.WatchLive(controllers=list(controllers))
        await self._stream.send_message(pb.WatchFunctionsRequest(live=live))


@asynccontextmanager
async def following(
    api: Any, from_revision: int = 0, controller: str = ""
) -> AsyncIterator[Follower]:
    channel: Channel = open_channel(api.life.addresses["rpc"])
    try:
        async with channel.request(
            METHOD, Cardinality.STREAM_STREAM, pb.WatchFunctionsRequest, pb.FunctionEvent
        ) as stream:
            start = pb.WatchStart(
                watcher="test", from_revision=from_revision, controller=controller
            )
            await stream.send_message(pb.WatchFunctionsRequest(start=start))
            try:
                yield Follower(stream)
            except EndOfStream:
                return
            await stream.cancel()
    finally:
        channel.close()


def shown(event: pb.FunctionEvent) -> Any:
    if event.put is not None:
        return (event.put.name, event.put.version)
    return event.deleted if event.deleted is not None else event.synced


async def answer_all(follower: Follower) -> None:
    while True:
        revision = (await follower.event()).revision  # fails when the stream has ended
        await follower.applied(revision)
        await follower.applied(revision - 1)  # `synced`, the first time
