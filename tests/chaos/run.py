"""One run: an engine, its load, faults one after the other, and the account of it all."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.chaos import leaks
from tests.chaos.changes import Change, Changes
from tests.chaos.faults import FAULTS, NEED_TWO_CONTROLLERS, Scene
from tests.chaos.functions import COLD, WARM, cold_name
from tests.chaos.ledger import Ledger
from tests.chaos.load import Call, Load
from tests.engine import Engine

POOL = 3
FLAGS = ("--pool-size", str(POOL), "--idle-timeout", "2", "--router-workers", "2")
"""A small pool and short times, so that everything happens often."""
CONTROLLERS = 2
"""So that one may die, or hang for longer than its lease."""
UPDATE_EVERY = 1.5
"""Seconds between two updates, whatever else happens."""
STEADY = ("quick", "slow", "stream", "record")
"""Functions that are called all the time, and each has one pod."""
QUIET = 0.7
"""Seconds from a recovery to the next fault, so that late damage is seen as the right one's."""
GIVE_UP = 25.0
"""Seconds to wait for a recovery."""
SETTLE = 40.0
"""Seconds for the end to be as quiet as the beginning: the pool keeps surplus pods for 15."""
SHRINKS_FROM, SPARE, MANY = 60.0, 6, 1000
"""Only a run of so many seconds waits for the pool to shrink, to its target or a bit more: that falls slowly, and the
pool follows it after a while."""


class Run:
    """Runs faults against an engine that runs.

    Args:
        engine: with `FLAGS`, without functions.
        records: an empty folder for what functions note.
        ledger: gets everything.
        seconds: for faults.
        faults: by name; taken in random orders, each once before any comes again.
        say: takes lines of progress.
    """

    def __init__(
        self,
        engine: Engine,
        records: Path,
        ledger: Ledger,
        *,
        seconds: float,
        faults: Sequence[str] = tuple(FAULTS),
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._engine = engine
        self._records = records
        self._ledger = ledger
        self._seconds = seconds
        self._faults = faults
        self._say = say
        self._dice = random.Random(ledger.seed)
        self._changes = Changes(engine.api, records, self._changed)
        self._cold = int(seconds * 3) + 20
        where = urlsplit(engine.url)
        assert where.hostname is not None
        assert where.port is not None
        # Dice of their own: how many pauses there are depends on the machine, faults must not.
        self._load = Load(
            (where.hostname, where.port),
            self._changes.lives,
            random.Random(ledger.seed + 1),
            self._called,
            self._cold,
        )
        self._window = ledger.open("start")
        self._moving = False  # functions, home, after the fault before
        self._retries: dict[tuple[str, str], float] = {}

    async def run(self) -> None:
        """The whole run; whatever may not happen stands in the ledger."""
        await self._deploy()
        before = await leaks.settled(self._engine, SETTLE, pods=0)
        self._ledger.began = time.monotonic()
        try:
            async with self._background():
                await self._until_all_is_well(time.monotonic())
                await asyncio.sleep(QUIET)
                until = time.monotonic() + self._seconds
                for fault in self._order():
                    if time.monotonic() > until:
                        break
                    await self._strike(fault)
        finally:
            await self._close()
        self._check_posts()
        shrunk = self._seconds >= SHRINKS_FROM
        after = await leaks.settled(self._engine, SETTLE, pods=SPARE if shrunk else MANY)
        for leak in after.leaks(before):
            self._ledger.accuse("leaks", leak)
        if shrunk and after.nodes > after.target + SPARE:
            self._ledger.accuse("leaks", f"{after.nodes} pods wait, the target is {after.target}")
        self._say(f"before: {before}")
        self._say(f"after:  {after}")

    async def _deploy(self) -> None:
        for name, code in WARM.items():
            await self._changes.create(name, code)
        for number in range(self._cold):
            await self._changes.create(cold_name(number), COLD)

    @contextlib.asynccontextmanager
    async def _background(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._load.run(), name="load"),
                group.create_task(self._keep_updating(), name="updates"),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def _keep_updating(self) -> None:
        while True:
            await asyncio.sleep(UPDATE_EVERY)
            await self._changes.update("updated")

    def _order(self) -> Iterator[str]:
        while True:
            yield from self._dice.sample(self._faults, len(self._faults))

    async def _strike(self, fault: str) -> None:
        await self._close()
        self._window = window = self._ledger.open(fault)
        window.sent = -self._load.sent
        scene = Scene(self._engine, self._load, self._changes, self._dice)
        before = {name: self._load.pids.get(name) for name in STEADY}
        window.damage = await FAULTS[fault](scene)
        window.recovery = await self._until_all_is_well(window.damage.since)
        moved = [name for name, pid in before.items() if self._load.pids.get(name) != pid]
        if window.damage.keeps and moved and not self._moving:
            self._ledger.accuse(fault, f"warm functions lost their pods: {', '.join(moved)}")
        self._moving = window.damage.moves
        await asyncio.sleep(QUIET)
        took = "never" if window.recovery is None else f"{window.recovery:.2f} s"
        failed = Counter(call.outcome for call in window.failed)
        at = time.monotonic() - self._ledger.began
        self._say(
            f"{at:6.1f} s  {fault:26} {window.calls:6} requests, recovery {took}  {dict(failed) or ''}"
        )

    async def _close(self) -> None:
        self._window.retried = await self._retried()
        self._window.sent += self._load.sent
        self._ledger.close(self._window)
        self._window = self._ledger.open("end")
        self._window.sent = -self._load.sent

    async def _until_all_is_well(self, since: float) -> float | None:
        """Seconds since then, when each kind of request and a change have succeeded at once."""
        while time.monotonic() - since < GIVE_UP:
            calls, change = await asyncio.gather(
                self._load.probe(), self._changes.update("updated")
            )
            if change.applied and all(call.answered and not call.wrong for call in calls):
                return time.monotonic() - since
            await asyncio.sleep(0.05)
        return None

    async def _retried(self) -> Counter[str]:
        """Requests that routers have sent again since the last time, by cause."""
        address = self._engine.run["services"]["router"].get("admin", "")
        told = await asyncio.to_thread(leaks.scrape, address)
        counts: Counter[str] = Counter()
        for (name, labels), value in told.items():
            if name == "sanfran_router_retries_total":
                cause = labels.partition('cause="')[2].partition('"')[0]
                former = self._retries.get((name, labels), 0)
                # A router that is new has counted from zero.
                counts[cause] += int(value - former if value >= former else value)
        self._retries = told
        return counts

    def _called(self, call: Call) -> None:
        self._ledger.take(self._window, call)

    def _changed(self, change: Change) -> None:
        self._window.changes.append(change)

    def _check_posts(self) -> None:
        for request_id, outcome in self._load.posts.items():
            record = self._records / request_id
            times = record.stat().st_size if record.exists() else 0
            if times > 1:
                self._ledger.accuse("posts", f"{request_id} ({outcome}) ran {times} times")
            elif outcome == "200" and not times:
                self._ledger.accuse("posts", f"{request_id} was answered and never ran")


def run(
    folder: Path,
    ledger: Ledger,
    *,
    seconds: float,
    faults: Sequence[str] = tuple(FAULTS),
    controllers: int = CONTROLLERS,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Starts an engine in an empty folder, runs faults against it, and stops it.

    Args:
        ledger: gets everything, also when the run is broken off.
        controllers: of the engine; with one, faults that need another one are left out.
    """
    records = folder / "records"
    records.mkdir()
    if controllers < CONTROLLERS:
        faults = [name for name in faults if name not in NEED_TWO_CONTROLLERS]
    with Engine(folder / "data", *FLAGS, "--controllers", str(controllers)) as engine:
        asyncio.run(Run(engine, records, ledger, seconds=seconds, faults=faults, say=say).run())
        for left in engine.stop():
            ledger.accuse("leaks", f"left after the engine's end: {left}")
