"""The clients: each sends one kind of request after the other, and tells of every one how it ended."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos.client import Connection, Failed
from tests.chaos.functions import EDGES, Expected, Life, cold_name

EDGE_SECONDS = (1.9, 2.4)
"""Between two calls of a function whose idle timeout is 2 seconds."""
WAVE_EVERY = 3.0
WAVE_REQUESTS = 12
COLD_EVERY = 0.5


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request.

    Args:
        name: for people.
        function: that it calls; empty: one never called before.
        method: GET or POST.
        kept: over a kept connection; else each request has its own.
        pause: seconds between two, on average.
        clients: that send them.
    """

    name: str
    function: str
    method: str = "GET"
    kept: bool = True
    pause: float = 0.05
    clients: int = 1


KINDS = (
    Kind("quick, kept", "quick", clients=2),
    Kind("quick, one each", "quick", kept=False),
    Kind("slow, kept", "slow", clients=2),
    Kind("slow, one each", "slow", kept=False),
    Kind("stream, kept", "stream"),
    Kind("stream, one each", "stream", kept=False),
    Kind("post, kept", "record", "POST", clients=2, pause=0.02),
    Kind("post, one each", "record", "POST", kept=False),
    Kind("family", "family"),
    Kind("updated", "updated", clients=2),
    Kind("updated, post", "updated", "POST", clients=4, pause=0.02),
    Kind("phoenix", "phoenix", pause=0.02),
    Kind("cold", ""),
    Kind("cold, post", "", "POST", kept=False),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request that has ended. Times are monotonic seconds.

    Args:
        outcome: the status (with the code of an error), or how it failed.
        wrong: what is wrong with the answer, which nothing excuses.
        port: of the client's end.
        sent: when it was written, which is later where a connection had to be opened.
    """

    kind: Kind
    function: str
    request_id: str
    began: float
    ended: float
    outcome: str
    wrong: str
    port: int
    sent: float

    @property
    def answered(self) -> bool:
        """By the function, or by a 404 that is right."""
        return self.outcome == "200" or (self.outcome.startswith("404") and not self.wrong)


class Load:
    """All clients.

    Args:
        address: host and port of the router.
        lives: of the functions, by name.
        dice: for pauses.
        tell: takes each call that has ended.
        cold: how many functions there are that nobody has called yet.
    """

    def __init__(
        self,
        address: tuple[str, int],
        lives: dict[str, Life],
        dice: random.Random,
        tell: Callable[[Call], None],
        cold: int,
    ) -> None:
        self._address = address
        self._lives = lives
        self._dice = dice
        self._tell = tell
        self._cold: Iterator[int] = itertools.cycle(range(cold))
        self._ids = itertools.count(1)
        self._running = asyncio.Event()
        self._running.set()
        self.sent = 0
        self.posts: dict[str, str] = {}
        """How each POST has ended, by its id."""
        self.pids: dict[str, int] = {}
        """Of the process that answered last, by function."""

    async def run(self) -> None:
        """Sends until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for kind in KINDS:
                for number in range(kind.clients):
                    group.create_task(self._client(kind), name=f"{kind.name} {number}")
            for number in range(EDGES):
                group.create_task(self._edge(f"edge-{number}"), name=f"edge {number}")
            group.create_task(self._waves(), name="waves")

    def hold(self) -> None:
        """Begins no more requests, so that all functions get idle."""
        self._running.clear()

    def go_on(self) -> None:
        """Ends the silence, for all clients in the same moment."""
        self._running.set()

    async def probe(self) -> list[Call]:
        """One request of each kind, at once, each over a new connection."""
        return list(await asyncio.gather(*(self._once(kind) for kind in KINDS)))

    async def burst(self, function: str, requests: int) -> list[Call]:
        """That many requests to a function at once."""
        kind = Kind("wave", function, kept=False)
        return list(await asyncio.gather(*(self._once(kind) for _ in range(requests))))

    async def _client(self, kind: Kind) -> None:
        connection = Connection(*self._address)
        pause = kind.pause if kind.function else COLD_EVERY
        try:
            while True:
                await asyncio.sleep(self._dice.uniform(0, 2 * pause))
                await self._running.wait()
                await self.call(kind, connection)
                if not kind.kept:
                    connection.close()
        finally:
            connection.close()

    async def _edge(self, function: str) -> None:
        kind = Kind("edge", function, self._dice.choice(["GET", "POST"]))
        while True:
            await asyncio.sleep(self._dice.uniform(*EDGE_SECONDS))
            await self._running.wait()
            await self._once(kind)

    async def _waves(self) -> None:
        while True:
            await asyncio.sleep(self._dice.uniform(0, 2 * WAVE_EVERY))
            await self._running.wait()
            await self.burst("wave", WAVE_REQUESTS)

    async def _once(self, kind: Kind) -> Call:
        connection = Connection(*self._address)
        try:
            return await self.call(kind, connection)
        finally:
            connection.close()

    async def call(self, kind: Kind, connection: Connection) -> Call:
        """Sends one request and tells how it ended."""
        name = kind.function or cold_name(next(self._cold))
        expected = Expected.of(name, self._lives[name])
        request_id = f"chaos-{next(self._ids)}"
        text = f"{request_id} " * 100 if kind.method == "POST" else ""
        headers = {"X-Request-Id": request_id}
        if not kind.kept:
            headers["Connection"] = "close"
        self.sent += 1
        began, wrong = time.monotonic(), ""
        try:
            answer = await connection.request(kind.method, f"/fn/{name}", headers, text.encode())
        except Failed as failure:
            outcome = str(failure)
        else:
            outcome = answer.outcome
            wrong = expected.wrong(answer.status, answer.body, request_id, text)
            if outcome == "200" and not wrong:
                self.pids[name] = json.loads(answer.body)["pid"]
        if kind.method == "POST":
            self.posts[request_id] = outcome
        ended, port, sent = time.monotonic(), connection.local_port, max(began, connection.sent_at)
        call = Call(kind, name, request_id, began, ended, outcome, wrong, port, sent)
        self._tell(call)
        return call
