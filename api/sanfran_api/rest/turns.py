"""One step of one request at a time: what else the event loop has to do comes in between.

A request for REST takes the loop for a millisecond or two, most of it in the web framework. Those that wait for
the same commit go on together; without turns, a look-up over gRPC would wait for all of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Generator
from typing import Any, cast

from starlette.types import ASGIApp, Receive, Scope, Send

Work = Coroutine[Any, Any, None]


class Turns:
    """Wraps the application: between two steps of its requests, the loop looks at all that has come."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _Steps(cast("Work", self._app(scope, receive, send)), self)

    def take(self) -> asyncio.Future[None] | None:
        """For a step that is to run now; or what it has to wait for first."""
        loop = asyncio.get_running_loop()
        if self._taken:
            turn = loop.create_future()
            self._waiting.append(turn)
            return turn
        self._taken = True
        loop.call_soon(self.pass_on)
        return None

    def pass_on(self) -> None:
        """The loop has been round: whoever waits longest is next."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False


class _Steps:
    """Awaited, runs a coroutine that takes a turn for each of its steps."""

    def __init__(self, work: Work, turns: Turns) -> None:
        self._work = work
        self._turns = turns

    def __await__(self) -> Generator[Any, None, None]:
        work, turns = self._work, self._turns
        failure: BaseException | None = None
        while True:
            turn = turns.take()
            if turn is not None:
                try:
                    yield from turn
                except BaseException as error:  # noqa: BLE001  # the coroutine's to judge
                    failure = error
                    turn.cancel()
                    if not turn.cancelled():  # it came in the same moment
                        turns.pass_on()
                else:
                    asyncio.get_running_loop().call_soon(turns.pass_on)
            try:
                awaited = work.send(None) if failure is None else work.throw(failure)
            except StopIteration:
                return
            failure = None
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001  # its too
                failure = error


async def let_others_in() -> None:
    """Ends a step in the middle of what would make it long."""
    await asyncio.sleep(0)
