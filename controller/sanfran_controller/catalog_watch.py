"""Follows `Api.WatchFunctions`: events to `updates`, acknowledgements back.

After a broken connection it resumes behind the last event that is carried out together with all
before it, so that the api service hears of every event that it waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from grpclib import GRPCError
from grpclib.const import Cardinality
from grpclib.exceptions import ProtocolError, StreamTerminatedError
from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.rpc.client import RpcClient
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_controller.catalog import Catalog
from sanfran_controller.record import Record
from sanfran_controller.updates import Updates

log = get_logger("catalog")

METHOD = "/sanfran.v1.Api/WatchFunctions"
OUTSTANDING_MOST = 256
"""Events that may wait to be carried out; reading stops until one is."""
RECONNECT_FIRST, RECONNECT_MOST = 0.05, 0.25
"""Seconds. Changes that are made meanwhile reach no pod: an api service that starts again should find
its watchers within a moment."""


class CatalogWatch:
    """Keeps the catalog true.

    Args:
        client: of the api service; whoever made it closes it.
        watcher: this controller's id, for the api service's logs.
        record: knows when it is known what all pods run. Only then changes are acknowledged: a pod that a
            controller process left, which died, may still serve an older version.
    """

    def __init__(
        self,
        client: RpcClient,
        catalog: Catalog,
        updates: Updates,
        *,
        watcher: str,
        record: Record,
    ) -> None:
        self._channel = client.channel
        self._catalog = catalog
        self._updates = updates
        self._watcher = watcher
        self._received = 0  # everything up to this revision was received
        self._undone: dict[int, int] = {}  # events not carried out: a running number → revision
        self._number = 0
        self._barriers: list[_Barrier] = []
        self._record = record
        self._acks: asyncio.Queue[int | None] | None = None  # once synced
        record.on_live = self._live_changed

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
            tell = log.warning if pause == RECONNECT_FIRST else log.debug
            tell("api service lost, connecting again", why=why, pause=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, RECONNECT_MOST)

    def resume_from(self) -> int:
        """Events up to this revision are carried out; 0: start over."""
        undone = [revision - 1 for revision in self._undone.values() if revision]
        return min([self._received, *undone])

    async def _watch_once(self) -> None:
        start = pb.WatchStart(
            watcher=self._watcher,
            from_revision=self.resume_from(),
            controller=self._record.ownership.name,
        )
        async with self._channel.request(
            METHOD, Cardinality.STREAM_STREAM, pb.WatchFunctionsRequest, pb.FunctionEvent
        ) as stream:
            await stream.send_message(pb.WatchFunctionsRequest(start=start))
            # A place is taken per event read and given back when it is acknowledged, which bounds
            # both the work and the queue.
            places = asyncio.Semaphore(OUTSTANDING_MOST)
            acks: asyncio.Queue[int | None] = asyncio.Queue()
            self._acks = None
            state: set[str] | None = set()  # names in the state, until `synced`
            async with OwnedTasks("catalog watch") as tasks:
                tasks.spawn(self._acknowledge(stream, acks, places), name="acknowledge")
                async for event in stream:
                    await places.acquire()
                    if event.synced is not None:
                        self._on_synced(event.revision, event.synced, state or set(), acks)
                        state = None
                    else:
                        self._on_change(event, acks, state)

    def _live_changed(self) -> None:
        if self._acks is not None:
            self._acks.put_nowait(None)

    def _on_change(
        self, event: pb.FunctionEvent, acks: asyncio.Queue[int | None], state: set[str] | None
    ) -> None:
        revision = event.revision
        if state is None:
            # Not before `synced`: the state need not come in the order of revisions.
            self._received = max(self._received, revision)
        carried_out = self._begin(revision, acks)
        if event.put is not None:
            if state is not None:
                state.add(event.put.name)
            self._updates.put(event.put, carried_out)
        elif event.deleted is not None:
            if state is not None:
                state.discard(event.deleted)
            self._updates.deleted(event.deleted, carried_out)
        else:
            carried_out()  # a kind of event that a newer api service knows

    def _on_synced(
        self,
        revision: int,
        synced: pb.WatchSynced,
        state: set[str],
        acks: asyncio.Queue[int | None],
    ) -> None:
        """Its acknowledgement stands for the whole state, so it waits for all that came before."""
        if synced.complete:
            for name in self._catalog.names():
                if name not in state:
                    self._updates.deleted(name, self._begin(0, None))
        self._received = revision
        self._catalog.synced.set()
        log.info("catalog synced", revision=revision, functions=len(self._catalog))
        before = set(self._undone)
        self._barriers.append(_Barrier(before, self._begin(revision, acks)))
        # Not before: who lives is told when all pods are accounted for, which waits for the state. What
        # stood behind it in the queue would keep its places, and the state could not come.
        self._acks = acks
        self._pass_barriers()

    def _begin(self, revision: int, acks: asyncio.Queue[int | None] | None) -> Callable[[], None]:
        """An event was received; returns what to call when it is carried out."""
        self._number += 1
        number = self._number
        self._undone[number] = revision

        def carried_out() -> None:
            del self._undone[number]
            if acks is not None:
                acks.put_nowait(revision)
            if self._barriers:
                for barrier in self._barriers:
                    barrier.waits_for.discard(number)
                self._pass_barriers()

        return carried_out

    def _pass_barriers(self) -> None:
        passed = [barrier for barrier in self._barriers if not barrier.waits_for]
        self._barriers = [barrier for barrier in self._barriers if barrier.waits_for]
        for barrier in passed:
            barrier.carried_out()

    async def _acknowledge(
        self, stream: Any, acks: asyncio.Queue[int | None], places: asyncio.Semaphore
    ) -> None:
        """Sends what is carried out, and before that who lives; None in the queue: only that."""
        told: tuple[str, ...] = ()
        try:
            while True:
                revision = await acks.get()
                # Functions of the first state carry no revision; `synced` stands for them.
                if revision != 0:
                    while not self._record.accounted.is_set():
                        await self._record.accounted.wait()
                    live = self._record.ownership.live()
                    if live != told:
                        told = live
                        message = pb.WatchLive(controllers=list(live))
                        await stream.send_message(pb.WatchFunctionsRequest(live=message))
                if revision:
                    applied = pb.WatchApplied(revision=revision)
                    await stream.send_message(pb.WatchFunctionsRequest(applied=applied))
                if revision is not None:
                    places.release()
        except (GRPCError, ProtocolError, StreamTerminatedError, OSError):
            # The reader may wait for a place: let it run into the same end, which it reports.
            for _ in range(OUTSTANDING_MOST):
                places.release()


@dataclass(frozen=True, slots=True)
class _Barrier:
    """A `synced` that is carried out when these events are."""

    waits_for: set[int]
    carried_out: Callable[[], None]
