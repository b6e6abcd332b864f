"""One worker as the supervisor sees it: what it says, what it is told, and its end.

The messages are described in `supervised`, which is the other side.
"""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

from sanfran_common.lifecycle import describe
from sanfran_common.telemetry.logs import get_logger

from sanfran_router.spawn import Spawned
from sanfran_router.tally import Gauges, Totals

log = get_logger("supervisor")

SCRAPE_PATIENCE = 1.0
"""Seconds between two messages of a worker that answers a scrape; then it is left out."""
SCRAPE_LONGEST = 5.0
"""Seconds for all of its answer; scrapers wait ten."""
_CHUNK = 65536


class Worker:
    """A running worker.

    Args:
        number: of its place.
        spawned: its process, which `run` sees to its end.
    """

    def __init__(self, number: int, spawned: Spawned) -> None:
        self.number = number
        self.ready = asyncio.Event()
        """A controller has told it its routes."""
        self.ended = asyncio.Event()
        self.heard = False
        """It has said something."""
        self.silent = 0
        """Ticks of the supervisor since then."""
        self._process = spawned.process
        self._control = spawned.control
        self._over = asyncio.Event()  # ready or ended
        self._gauges = Gauges()
        self._told = asyncio.Event()
        self._answered: tuple[int, Gauges] | None = None

    async def run(self, totals: Totals) -> str:
        """Takes in what it says, until it has ended. Cancelled, it ends it the hard way.

        Returns:
            How it ended, in words.
        """
        try:
            await self._listen(totals)
            # Its end of the socket is closed: it is about to be gone.
            return _how(await asyncio.to_thread(self._process.wait))
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._control.close()
            self.ended.set()
            self._over.set()
            self._told.set()

    async def _listen(self, totals: Totals) -> None:
        loop = asyncio.get_running_loop()
        rest = b""
        try:
            while chunk := await loop.sock_recv(self._control, _CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take(json.loads(line), totals)
        except ConnectionError:
            pass  # killed with orders unread
        except (ValueError, LookupError, TypeError) as error:
            # Its code may be newer than ours; what it cannot be asked must not end the others.
            log.error("worker not understood; killed", worker=self.number, error=describe(error))
            self.kill()

    def _take(self, message: dict[str, Any], totals: Totals) -> None:
        self.heard = True
        self.silent = 0
        match message["type"]:
            case "ready":
                self.ready.set()
                self._over.set()
            case "counts":
                totals.add(message["rows"], self._gauges)
                self._told.set()
            case "scraped":
                totals.connections_refused += message["refused"]
                totals.access_lines_dropped += message["lines_dropped"]
                gauges, self._gauges = self._gauges, Gauges()
                gauges.connections = message["connections"]
                gauges.functions = message["functions"]
                self._answered = message["id"], gauges
                self._told.set()

    async def ready_or_ended(self) -> None:
        """Returns when it is ready, or will never be."""
        await self._over.wait()

    async def scrape(self, number: int) -> Gauges | None:
        """Asks for its counts, which go to the totals.

        Args:
            number: of the question; each has its own.

        Returns:
            Its gauges; None when it has not answered in time.
        """
        self.tell("scrape", id=number)
        try:
            async with asyncio.timeout(SCRAPE_LONGEST):
                while not self.ended.is_set():
                    if self._answered is not None and self._answered[0] == number:
                        return self._answered[1]
                    self._told.clear()
                    async with asyncio.timeout(SCRAPE_PATIENCE):
                        await self._told.wait()
        except TimeoutError:
            pass
        return None

    def tell(self, order: str, **details: object) -> None:
        """Sends an order; one that does not read them hangs, and will be killed for that."""
        line = json.dumps({"type": order, **details}).encode() + b"\n"
        try:
            self._control.send(line)
        except OSError:
            pass

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()


def _how(code: int) -> str:
    """An exit code, as subprocess gives it, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
