"""Follows `Api.WatchFunctions`: events to `updates`, acknowledgements back.

After a broken connection it resumes behind the last event that is carried out together with all
before it, so that the api service hears of every event that it waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from grpclib import GRPCError
from grpclib.const import Cardinality
from grpclib.exceptions import ProtocolError, StreamTerminatedError
from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.rpc.client import RpcClient
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_controller.catalog import Catalog
from sanfran_controller.updates import Updates

log = get_logger("catalog")

METHOD = "/sanfran.v1.Api/WatchFunctions"
OUTSTANDING_MOST = 256
"""Events that may wait to be carried out; reading stops until one is."""
RECONNECT_FIRST, RECONNECT_MOST = 0.05, 2.0


class CatalogWatch:
    """Keeps the catalog true.

    Args:
        client: of the api service; whoever made it closes it.
        watcher: this controller's id, for the api service's logs.
    """

    def __init__(
        self, client: RpcClient, catalog: Catalog, updates: Updates, *, watcher: str
    ) -> None:
        self._channel = client.channel
        self._catalog = catalog
        self._updates = updates
        self._watcher = watcher
        self._received = 0  # everything up to this revision was received
        self._outstanding: set[int] = set()  # revisions received and not carried out

    async def run(self) -> None:
        """Watches for ever, connecting again when the connection breaks."""
        pause = RECONNECT_FIRST
        while True:
            before = self._received
            try:
                await self._watch_once()
                why = "it ended the watch"
            except GRPCError as error:
                why = f"{error.status.name}: {error.message}"
            if self._received != before:
                pause = RECONNECT_FIRST
            log.warning("api service lost, connecting again", why=why, pause=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, RECONNECT_MOST)

    def resume_from(self) -> int:
        """Events up to this revision are carried out."""
        return min([self._received, *(one - 1 for one in self._outstanding)])

    async def _watch_once(self) -> None:
        start = pb.WatchStart(watcher=self._watcher, from_revision=self.resume_from())
        async with self._channel.request(
            METHOD, Cardinality.STREAM_STREAM, pb.WatchFunctionsRequest, pb.FunctionEvent
        ) as stream:
            await stream.send_message(pb.WatchFunctionsRequest(start=start))
            # A place is taken per event read and given back when its acknowledgement is sent, which
            # bounds both the work and the queue.
            places = asyncio.Semaphore(OUTSTANDING_MOST)
            acks: asyncio.Queue[int] = asyncio.Queue()
            sent: set[str] | None = set()  # names in the state, until `synced`
            async with OwnedTasks("catalog watch") as tasks:
                tasks.spawn(_acknowledge(stream, acks, places), name="acknowledge")
                async for event in stream:
                    if event.synced is not None:
                        self._on_synced(event.revision, event.synced, sent or set())
                        sent = None
                        continue
                    await places.acquire()
                    if sent is not None and event.put is not None:
                        sent.add(event.put.name)
                    elif sent is not None and event.deleted is not None:
                        sent.discard(event.deleted)
                    self._take(event, acks.put_nowait, counts=sent is None)

    def _take(self, event: pb.FunctionEvent, ack: Callable[[int], None], *, counts: bool) -> None:
        revision = event.revision
        self._outstanding.add(revision)
        if counts:
            # Before `synced` events need not come in the order of their revisions, so only
            # starting over is safe if the connection breaks.
            self._received = max(self._received, revision)

        def carried_out() -> None:
            self._outstanding.discard(revision)
            ack(revision)

        if event.put is not None:
            self._updates.put(event.put, carried_out)
        elif event.deleted is not None:
            self._updates.deleted(event.deleted, carried_out)
        else:
            carried_out()

    def _on_synced(self, revision: int, synced: pb.WatchSynced, sent: set[str]) -> None:
        if synced.complete:
            for name in self._catalog.names():
                if name not in sent:
                    self._updates.deleted(name, lambda: None)
        self._received = revision
        self._catalog.synced.set()
        log.info("catalog synced", revision=revision, functions=len(self._catalog))


async def _acknowledge(stream: Any, acks: asyncio.Queue[int], places: asyncio.Semaphore) -> None:
    try:
        while True:
            applied = pb.WatchApplied(revision=await acks.get())
            await stream.send_message(pb.WatchFunctionsRequest(applied=applied))
            places.release()
    except (GRPCError, ProtocolError, StreamTerminatedError, OSError):
        # The reader may wait for a place: let it run into the same end, which it reports.
        for _ in range(OUTSTANDING_MOST):
            places.release()
