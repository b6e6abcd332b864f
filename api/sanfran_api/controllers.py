"""What only controllers know: the pods of a function, and what it writes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grpclib import GRPCError, Status
from grpclib.client import Channel
from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.rpc.client import RpcClient
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_api.errors import NoController

log = get_logger("controllers")

STATUS_TIMEOUT = 1.0
"""Seconds; a status is a look into a controller's memory."""
PAST_LOGS_TIMEOUT = 5.0
"""Seconds; what has come by then is shown, so that a controller that hangs hides nothing else."""
MAX_LINES = 10_000
"""Lines of the past per controller, newest first."""
LINES_AHEAD = 1000
"""Lines that wait for a slow reader; then the controllers wait."""
FIRST_LINE_WAIT = 1.0
"""Seconds to see whether any controller answers, before an endless answer begins."""


class Controllers:
    """Asks every controller and puts the answers together.

    Args:
        client: None when there are no controllers.
        stopping: ends the log streams that are being followed.
    """

    def __init__(self, client: RpcClient | None, stopping: asyncio.Event) -> None:
        self._client = client
        self._stopping = stopping

    async def status(self, name: str) -> pb.FunctionStatus | None:
        """The pods of a function on all controllers, or None when no controller answers."""

        async def ask(address: str, channel: Channel) -> pb.FunctionStatus | None:
            request = pb.GetStatusRequest(name=name)
            try:
                return await pb.ControllerStub(channel).get_status(request, timeout=STATUS_TIMEOUT)
            except GRPCError as error:
                if error.status is Status.NOT_FOUND:  # not told of it yet, or already
                    return pb.FunctionStatus(name=name)
                log.debug("no status", controller=address, error=str(error))
                return None

        asked = await asyncio.gather(*(ask(*each) for each in self._each()))
        answers = [answer for answer in asked if answer is not None]
        return _together(name, answers) if answers else None

    async def statuses(self, names: list[str]) -> dict[str, pb.FunctionStatus]:
        """The same of many functions; nothing of those that no controller knows."""

        async def ask(address: str, channel: Channel) -> list[pb.FunctionStatus]:
            request = pb.GetStatusesRequest(names=names)
            try:
                stub = pb.ControllerStub(channel)
                return (await stub.get_statuses(request, timeout=STATUS_TIMEOUT)).functions
            except GRPCError as error:
                log.debug("no statuses", controller=address, error=str(error))
                return []

        asked = await asyncio.gather(*(ask(*each) for each in self._each()))
        told: dict[str, list[pb.FunctionStatus]] = {}
        for status in (one for some in asked for one in some):
            told.setdefault(status.name, []).append(status)
        return {name: _together(name, answers) for name, answers in told.items()}

    async def pools(self, decisions: int) -> dict[str, pb.PoolStatus | None]:
        """Each controller's pool, by address; None of one that does not answer.

        Args:
            decisions: of each, the latest, at most.

        Raises:
            NoController: none answers.
        """

        async def ask(address: str, channel: Channel) -> pb.PoolStatus | None:
            request = pb.GetPoolRequest(decisions=decisions)
            try:
                return await pb.ControllerStub(channel).get_pool(request, timeout=STATUS_TIMEOUT)
            except GRPCError as error:
                log.debug("no pool", controller=address, error=str(error))
                return None

        each = self._each()
        asked = await asyncio.gather(*(ask(*one) for one in each))
        if not any(asked):
            raise NoController("no controller answers, and only they know the pool")
        return dict(zip((address for address, _ in each), asked, strict=True))

    async def past_logs(self, name: str, tail: int) -> list[pb.LogLine]:
        """What the function wrote, oldest first.

        Args:
            tail: lines at most; 0: all that is kept.

        Raises:
            NoController: none answers.
        """
        most = min(tail or MAX_LINES, MAX_LINES)
        answered = False

        async def ask(address: str, channel: Channel) -> list[pb.LogLine]:
            nonlocal answered
            lines: deque[pb.LogLine] = deque(maxlen=most)
            request = pb.StreamLogsRequest(name=name, tail=tail)
            try:
                stub = pb.ControllerStub(channel)
                async for line in stub.stream_logs(request, timeout=PAST_LOGS_TIMEOUT):
                    lines.append(line)
            except GRPCError as error:
                log.debug("no logs", controller=address, error=str(error))
                answered = answered or error.status is Status.NOT_FOUND
            else:
                answered = True
            return list(lines)

        asked = await asyncio.gather(*(ask(*each) for each in self._each()))
        lines = sorted((line for some in asked for line in some), key=lambda line: line.time_ms)
        if not answered and not lines:
            raise _nobody()
        return lines[-most:]

    @asynccontextmanager
    async def following_logs(
        self, name: str, tail: int
    ) -> AsyncIterator[AsyncIterator[pb.LogLine]]:
        """What the function wrote and writes, as it comes from every controller.

        It ends when the last controller's stream has ended, or the service stops.

        Raises:
            NoController: none answers.
        """
        lines: asyncio.Queue[pb.LogLine | None] = asyncio.Queue(LINES_AHEAD)
        each = self._each()
        pumps = len(each)

        async def pump(address: str, channel: Channel) -> None:
            nonlocal pumps
            request = pb.StreamLogsRequest(name=name, follow=True, tail=tail)
            try:
                async for line in pb.ControllerStub(channel).stream_logs(request):
                    await lines.put(line)
            except GRPCError as error:
                log.debug("log stream ended", controller=address, error=str(error))
            pumps -= 1
            if not pumps:
                await lines.put(None)

        async def end() -> None:
            await self._stopping.wait()
            await lines.put(None)

        async def read(first: pb.LogLine | None) -> AsyncIterator[pb.LogLine]:
            if first is not None:
                yield first
            while (line := await lines.get()) is not None:
                yield line

        if not each:
            raise _nobody()
        async with OwnedTasks("logs") as tasks:
            tasks.spawn(end(), name="stop")
            for address, channel in each:
                tasks.spawn(pump(address, channel), name=address)
            first: pb.LogLine | None = None
            try:
                async with asyncio.timeout(FIRST_LINE_WAIT):
                    first = await lines.get()
                    if first is None:
                        raise _nobody()
            except TimeoutError:
                pass  # it writes nothing yet
            yield read(first)

    def _each(self) -> list[tuple[str, Channel]]:
        return list(self._client.each().items()) if self._client is not None else []


def _together(name: str, answers: list[pb.FunctionStatus]) -> pb.FunctionStatus:
    """One status of what several controllers told. Routers tell all of them the same load."""
    latest = max(answers, key=lambda one: one.last_cold_at_ms)
    return pb.FunctionStatus(
        name=name,
        pods=[pod for answer in answers for pod in answer.pods],
        load_error=next((one.load_error for one in answers if one.load_error), ""),
        activations=sum(one.activations for one in answers),
        last_activation_ms=next(
            (one.last_activation_ms for one in answers if one.last_activation_ms), 0.0
        ),
        in_flight=max(one.in_flight for one in answers),
        queued=max(one.queued for one in answers),
        calls=max(one.calls for one in answers),
        last_cold_ms=latest.last_cold_ms,
        last_cold_at_ms=latest.last_cold_at_ms,
    )


def _nobody() -> NoController:
    return NoController("no controller answers, and only they know what a function writes")
