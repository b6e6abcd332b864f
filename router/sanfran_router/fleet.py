"""The supervisor's workers: each has a place with listening sockets, which outlive it.

A worker that dies, or whose event loop hangs, is replaced. A rolling restart replaces one after the
other: the new one is ready before the old one retires, so no request is lost.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from time import monotonic
from types import TracebackType

from sanfran_common.lifecycle import TaskOwner
from sanfran_common.telemetry.logs import get_logger

from sanfran_router.metrics import Scrape
from sanfran_router.spawn import Spawned, spawn_worker
from sanfran_router.tally import Gauges, Totals
from sanfran_router.workers import Worker

log = get_logger("supervisor")

TICK = 1.0
SILENT_TICKS = 10
"""Seconds without a sign of life until a worker counts as hung. Our own ticks are counted, so that
a supervisor that was held up itself does not blame its workers."""
START_TICKS = 30
"""Until the first sign of life."""
RENEW_SECONDS = 30.0
"""For a new worker to be ready, before the old one retires."""
STOP_SPARE = 5.0
"""Seconds that a worker may take for its stop beyond what the settings give it."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds before a worker that dies again is replaced; doubling. The first time: at once."""
STEADY_SECONDS = 20.0
"""A worker that lived for so long has died for the first time."""


class WorkerFailed(Exception):
    """A worker did not come up when the router started."""


class Place:
    """Where one worker works: a number, and the sockets that it accepts from."""

    def __init__(self, number: int, sockets: Sequence[socket.socket]) -> None:
        self.number = number
        self.sockets = sockets
        self.current: Worker | None = None
        self.retiring: Worker | None = None
        self.first_ready = asyncio.Event()
        self.hung = False
        """Its last worker was, and there is no new one yet."""
        self.deaths = 0


class Fleet(TaskOwner):
    """All workers. They run while its `async with` lasts.

    Args:
        places: the sockets of each, with the worker that was started there.
        stop_seconds: that a worker takes for its stop, at most.
    """

    def __init__(
        self, places: Sequence[tuple[Sequence[socket.socket], Spawned]], stop_seconds: float
    ) -> None:
        super().__init__("workers")
        self._spawned = [spawned for _, spawned in places]
        self._places = [Place(number, one) for number, (one, _) in enumerate(places, start=1)]
        self._stop_seconds = stop_seconds
        self._workers: set[Worker] = set()
        self._all_ended = asyncio.Event()
        self._stopping = False
        self._renewal_wanted = asyncio.Event()
        self._scraping = asyncio.Lock()
        self._scrapes = 0
        self.totals = Totals()

    async def __aenter__(self) -> Fleet:
        await super().__aenter__()
        for place, spawned in zip(self._places, self._spawned, strict=True):
            place.current = self._adopt(place, spawned)
        self._tasks.loop(self._watch(), name="watch")
        self._tasks.loop(self._renew_when_wanted(), name="renewal")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping = True
        self.kill()
        await super().__aexit__(kind, error, trace)

    async def first_ready(self) -> None:
        """Returns when each place has had a worker that was ready."""
        for place in self._places:
            await place.first_ready.wait()

    @property
    def serving(self) -> int:
        """Workers that take connections and know their routes. Any thread may ask."""
        if self._stopping:
            return 0
        currents = [place.current for place in self._places]
        return sum(worker is not None and worker.ready.is_set() for worker in currents)

    @property
    def ailment(self) -> str:
        """What is wrong, in words; nothing when all is well. Any thread may ask."""
        hung = [str(place.number) for place in self._places if place.hung]
        return f"hung: worker {', '.join(hung)}" if hung else ""

    def renew(self) -> None:
        """Replaces all workers, one after the other; once more after one that is under way."""
        self._renewal_wanted.set()

    async def stop(self) -> None:
        """Lets all workers stop in order, and returns when they are gone."""
        self._stopping = True
        for place in self._places:
            for one in place.sockets:
                one.close()
        for worker in self._workers:
            worker.tell("stop")
        try:
            async with asyncio.timeout(self._stop_seconds + STOP_SPARE):
                while self._workers:
                    self._all_ended.clear()
                    await self._all_ended.wait()
        except TimeoutError:
            log.error("workers killed at the stop", workers=len(self._workers))
            self.kill()

    def kill(self) -> None:
        """Ends all workers at once."""
        for worker in self._workers:
            worker.kill()

    async def scrape(self) -> Scrape:
        """Asks all workers for what they have counted; one that does not answer is left out."""
        async with self._scraping:
            self._scrapes += 1
            asked = [worker for worker in self._workers if worker.heard]
            answers = await asyncio.gather(*(one.scrape(self._scrapes) for one in asked))
        now = Gauges()
        for answer in answers:
            if answer is not None:
                now.add(answer)
        return Scrape(self.totals, now, self.serving)

    def _adopt(self, place: Place, spawned: Spawned) -> Worker:
        worker = Worker(place.number, spawned)
        self._workers.add(worker)
        self._tasks.spawn(self._follow(place, worker), name=f"worker {place.number}")
        return worker

    async def _follow(self, place: Place, worker: Worker) -> None:
        """One worker's life, and its replacement when that ends before its time."""
        born = monotonic()
        self._tasks.spawn(self._on_ready(place, worker), name=f"readiness of {place.number}")
        try:
            how = await worker.run(self.totals)
        finally:
            self._workers.discard(worker)
            self._all_ended.set()
        if self._stopping or place.current is not worker:
            log.info("worker ended", worker=place.number, how=how)
            return
        place.current = None
        if not (worker.heard or place.first_ready.is_set()):
            raise WorkerFailed(f"worker {place.number} {how} at its start")
        self.totals.worker_restarts += 1
        if monotonic() - born > STEADY_SECONDS:
            place.deaths = 0
        place.deaths += 1
        log.error("worker ended; replacing it", worker=place.number, how=how)
        await self._replace(place)

    async def _on_ready(self, place: Place, worker: Worker) -> None:
        await worker.ready_or_ended()
        if worker.ready.is_set():
            place.first_ready.set()
            place.hung = False

    async def _replace(self, place: Place) -> None:
        while True:
            if place.deaths > 1:
                pause = FIRST_PAUSE * 2.0 ** min(place.deaths - 2, 16)
                await asyncio.sleep(min(pause, LONGEST_PAUSE))
            if self._stopping or place.current is not None:
                return
            try:
                place.current = self._adopt(place, spawn_worker(place.number, place.sockets))
                return
            except OSError as error:
                place.deaths += 1
                log.error("no worker could be started", worker=place.number, error=str(error))

    async def _watch(self) -> None:
        """Kills workers whose event loop does not turn."""
        while True:
            await asyncio.sleep(TICK)
            for worker in self._workers:
                worker.silent += 1
                if worker.silent == (SILENT_TICKS if worker.heard else START_TICKS):
                    log.error("worker hangs; killed", worker=worker.number)
                    place = self._places[worker.number - 1]
                    place.hung = place.hung or worker is place.current
                    worker.kill()

    async def _renew_when_wanted(self) -> None:
        while True:
            await self._renewal_wanted.wait()
            self._renewal_wanted.clear()
            log.info("replacing all workers")
            for place in self._places:
                why = await self._renew(place)
                if why and not self._stopping:
                    # What keeps one from coming up will most likely keep the others.
                    log.error("old workers kept", worker=place.number, why=why)
                    break
            else:
                log.info("replaced all workers")

    async def _renew(self, place: Place) -> str:
        """Puts a new worker in the place of the present one. Returns why not, if not."""
        if place.retiring is not None:  # from the renewal before: no more than two at a time
            await place.retiring.ended.wait()
        if self._stopping:
            return "stopping"
        try:
            fresh = self._adopt(place, spawn_worker(place.number, place.sockets, hold=True))
        except OSError as error:
            return f"the new one could not be started: {error}"
        try:
            async with asyncio.timeout(RENEW_SECONDS):
                await fresh.ready_or_ended()
        except TimeoutError:
            fresh.kill()
            return f"the new one was not ready after {RENEW_SECONDS:g} s"
        if not fresh.ready.is_set():
            return "the new one ended before it was ready"
        fresh.tell("accept")
        place.retiring, place.current = place.current, fresh
        if place.retiring is not None:
            place.retiring.tell("retire")
        return ""
