"""Who follows the functions, and what they have carried out.

A change is answered once every controller that lives has applied it, so that a request that begins
after the answer never meets the older version. Nothing is queued per watcher: each reads the
store's history from where it stands, and one that falls behind its end has to connect again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from grpclib import Status
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_api.errors import ApiError
from sanfran_api.metrics import UNAPPLIED, WATCHERS
from sanfran_api.store.store import EVERYTHING, Store

log = get_logger("watch")

HISTORY_PAGE = 100
SNAPSHOT_PAGE = 50
"""Functions parsed at once; some 3 ms of the event loop."""
ABSENCE_PATIENCE = 5.0
"""Seconds that a change waits for a controller to come back: what its restart may take."""
MAX_UNACKNOWLEDGED = 4096
"""Events that a watcher may owe an answer for, before it is sent no more."""


class TooFarBehind(ApiError):
    """The watcher has to connect again, and will get everything anew."""

    code = "too_far_behind"
    http_status = 409
    grpc_status = Status.ABORTED


class Watcher:
    """One connected follower. Made by `Watchers.attach`."""

    def __init__(self, name: str, controller: str, watchers: Watchers) -> None:
        self.name = name
        self.controller = controller
        self._watchers = watchers
        self._wake = asyncio.Event()
        self._sent = 0
        self._owed: set[int] = set()
        self._snapshot = 0

    def applied(self, revision: int) -> None:
        """The watcher has carried out the event with this revision."""
        if revision in self._owed:
            self._owed.remove(revision)
            self._wake.set()
            self._watchers.settle()

    @property
    def applied_up_to(self) -> int:
        """The revision up to which it has carried out everything."""
        return min(self._owed) - 1 if self._owed else self._sent

    def told_live(self, controllers: list[str]) -> None:
        """These controllers live, and have or get the pods of those that do not."""
        self._watchers.live = frozenset(controllers)
        self._watchers.settle()

    def has_applied(self, revision: int) -> bool:
        """Whether it has, or never had to: a snapshot as a whole counts for all before it."""
        if revision > self._sent:
            return False
        if revision <= self._snapshot:
            return self._snapshot not in self._owed
        return revision not in self._owed

    async def events(self, store: Store, from_revision: int) -> AsyncIterator[pb.FunctionEvent]:
        """The state as of a revision, `synced`, then changes as they happen; without end.

        Args:
            from_revision: 0 for everything, else what the watcher knows already.

        Raises:
            TooFarBehind: the history does not reach back to where the watcher stands any more.
        """
        revision = from_revision
        ahead: dict[str, int] = {}
        history = store.history(revision, HISTORY_PAGE) if revision else None
        synced = history is None
        if history is None:
            if revision:
                log.info("watcher starts over", watcher=self.name, revision=revision)
            revision = store.revision
            async for event in self._everything(store, revision, ahead):
                yield event
            history = store.history(revision, HISTORY_PAGE)
        while history is not None:
            for event in history.events:
                name = event.put.name if event.put is not None else event.deleted or ""
                if event.revision > ahead.get(name, 0):
                    await self._room()
                    self._owe(event.revision)
                    yield event
            revision = history.up_to
            self._reach(revision)
            if not synced and not history.more:
                synced = True
                # A change may carry the same revision: then one answer stands for both.
                self._owe(revision)
                yield pb.FunctionEvent(revision=revision, synced=pb.WatchSynced())
            if not history.more:
                await self._more(store, revision)
            history = store.history(revision, HISTORY_PAGE)
        # A second snapshot would say of the first that it never happened: connect again for one.
        raise TooFarBehind(f"the watcher is behind all history that is kept, at {revision}")

    async def _everything(
        self, store: Store, revision: int, ahead: dict[str, int]
    ) -> AsyncIterator[pb.FunctionEvent]:
        """All functions, then `synced` with the revision from which the history goes on.

        What changes meanwhile may be sent in its newer form; `ahead` remembers that, so that
        the change is not sent again.
        """
        after = ""
        while True:
            page = store.page(after, SNAPSHOT_PAGE, reveal=True)
            for function, changed in page.functions:
                if changed > revision:
                    ahead[function.name] = changed
                # No revision: one who resumed from within a snapshot would miss the rest of it.
                yield pb.FunctionEvent(put=function)
            after = page.next_after
            if not after:
                break
        self._snapshot = revision
        self._owe(revision)
        yield pb.FunctionEvent(revision=revision, synced=pb.WatchSynced(complete=True))

    async def _more(self, store: Store, revision: int) -> None:
        """Waits until the store has gone beyond a revision."""
        while store.revision == revision:
            self._wake.clear()
            if store.revision == revision:
                await self._wake.wait()

    async def _room(self) -> None:
        while len(self._owed) >= MAX_UNACKNOWLEDGED:
            self._wake.clear()
            await self._wake.wait()

    def _owe(self, revision: int) -> None:
        self._owed.add(revision)
        self._sent = max(self._sent, revision)

    def _reach(self, revision: int) -> None:
        if revision > self._sent:
            self._sent = revision
            self._watchers.settle()

    def wake(self) -> None:
        """The store may have changed."""
        self._wake.set()


class Watchers:
    """All connected watchers, and the changes that wait for them.

    Args:
        expected: there are controllers somewhere. While none is connected, one may have died and left
            pods that serve, so a change counts as applied only when one is back and says so.
    """

    def __init__(self, *, expected: bool = False) -> None:
        self.live: frozenset[str] = frozenset()
        """Controllers that have to apply each change, as one of them told last; none: whoever is connected."""
        self._expected = expected
        self._watchers: set[Watcher] = set()
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        self._closed = False

    def changed(self) -> None:
        """The store has committed something."""
        for watcher in self._watchers:
            watcher.wake()

    @contextmanager
    def attach(self, name: str, controller: str = "") -> Iterator[Watcher]:
        """Counts a watcher as connected while the `with` lasts.

        Args:
            name: of its process.
            controller: its own name.
        """
        watcher = Watcher(name, controller, self)
        self._watchers.add(watcher)
        WATCHERS.set(len(self._watchers))
        log.info("watcher connected", watcher=name)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            WATCHERS.set(len(self._watchers))
            log.info("watcher left", watcher=name)
            self.settle()

    async def applied(self, revision: int, timeout: float) -> bool:
        """Waits until every controller that lives has applied a change.

        Args:
            timeout: seconds; while none is connected, `ABSENCE_PATIENCE` at most.

        Returns:
            False when the time was over first, or the service stops.
        """
        if self._all_applied(revision):
            return True
        if self._closed:
            return False
        waiting = self._waiting[revision] = asyncio.get_running_loop().create_future()
        try:
            patience = timeout if self._watchers else min(timeout, ABSENCE_PATIENCE)
            async with asyncio.timeout(patience):
                outcome: bool = await waiting
                return outcome
        except TimeoutError:
            late = [one.name for one in self._watchers if not one.has_applied(revision)]
            log.warning("change not applied in time", revision=revision, watchers=late)
            UNAPPLIED.inc()
            return False
        finally:
            del self._waiting[revision]

    def applied_everywhere(self) -> int:
        """The revision up to which every controller that lives has carried out everything: none of
        them starts anything of what was replaced before."""
        if self._expected and not self._watchers:
            return 0
        if not self.live <= {watcher.controller for watcher in self._watchers}:
            return 0
        return min((one.applied_up_to for one in self._watchers), default=EVERYTHING)

    def settle(self) -> None:
        """Answers the changes that everyone has applied by now."""
        for revision, waiting in self._waiting.items():
            if not waiting.done() and self._all_applied(revision):
                waiting.set_result(True)

    def close(self) -> None:
        """The first step of a stop: no change waits any longer."""
        self._closed = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(False)

    def _all_applied(self, revision: int) -> bool:
        if self._expected and not self._watchers:
            return False
        have = [watcher for watcher in self._watchers if watcher.has_applied(revision)]
        if self.live:
            # One that died is waited for until it is back, or others have its pods: those may still
            # serve the older version.
            return self.live <= {watcher.controller for watcher in have}
        return len(have) == len(self._watchers)
