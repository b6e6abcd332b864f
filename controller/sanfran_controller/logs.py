"""The log lines of all pods of one function, merged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from grpclib import GRPCError
from sanfran_common.lifecycle import OwnedTasks
from sanfran_proto.sanfran import v1 as pb

from sanfran_controller.pods import Pod
from sanfran_controller.routes import Routes
from sanfran_controller.streams import reading

AHEAD_MOST = 1000
"""Lines read from pods and not yet taken by the reader; a slow reader slows the reading."""
PAST_TIMEOUT = 5.0
"""Seconds for a pod to send what it keeps."""


async def past(pods: list[Pod], words: list[pb.LogLine], tail: int) -> list[pb.LogLine]:
    """What pods keep, and those that are gone have left, in the order of time.

    Args:
        words: of pods that are gone.
        tail: lines at most, the newest; 0: all.
    """

    async def kept(pod: Pod) -> list[pb.LogLine]:
        request = pb.PodLogsRequest(follow=False, tail=tail)
        try:
            async with reading(pod.calls.stream_logs(request, timeout=PAST_TIMEOUT)) as lines:
                return [line async for line in lines]
        except GRPCError:
            return []  # the pod is going, and its lines with it

    found = await asyncio.gather(*map(kept, pods))
    lines = [line for some in (words, *found) for line in some]
    lines.sort(key=lambda line: line.time_ms)
    return lines[-tail:] if tail else lines


async def follow(
    name: str,
    pods: Callable[[], list[Pod]],
    words: list[pb.LogLine],
    tail: int,
    routes: Routes,
    tasks: OwnedTasks,
) -> AsyncGenerator[pb.LogLine]:
    """Lines as they come, until the reader leaves; pods that join are read too. Lines of one
    pod stay in order.

    Args:
        pods: gives the function's pods of the moment.
        words: of pods that are gone; they come first.
        tail: lines of the past at most, from each pod.
        tasks: owns the readers.
    """
    lines: asyncio.Queue[pb.LogLine] = asyncio.Queue(AHEAD_MOST)
    read: set[tuple[str, str]] = set()
    readers: set[asyncio.Task[None]] = set()

    def start(reading: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        task = tasks.spawn(reading, name=what)
        readers.add(task)
        task.add_done_callback(readers.discard)
        return task

    async def copy(pod: Pod) -> None:
        request = pb.PodLogsRequest(follow=True, tail=tail)
        try:
            async with reading(pod.calls.stream_logs(request)) as found:
                async for line in found:
                    await lines.put(line)
        except GRPCError:
            return  # the pod is gone

    def join() -> None:
        for pod in pods():
            activation = pod.activation.id if pod.activation is not None else ""
            if (pod.name, activation) not in read:
                read.add((pod.name, activation))
                reader = start(copy(pod), f"logs of {pod.name}")
                pod.log_readers.add(reader)
                reader.add_done_callback(pod.log_readers.discard)

    async def watch() -> None:
        async with aclosing(routes.watch()) as events:
            async for event in events:
                if event.synced is not None or (event.route and event.route.name == name):
                    join()

    try:
        for line in words[-tail:]:
            yield line
        start(watch(), f"pods of {name}")
        while True:
            yield await lines.get()
    finally:
        for reader in readers:
            reader.cancel()
