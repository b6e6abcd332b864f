"""The conversation with one pod's sidecar, apart from what it is used for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from grpclib import GRPCError, Status
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_controller.pods import Activation, Pod
from sanfran_controller.states import PodState
from sanfran_controller.streams import reading

log = get_logger("sidecar")

WARMING_CALLS = 3
"""Enough for both ends to have run every line of a call; measured in the design's cold path table."""
CALL_TIMEOUT = 1.0
"""Seconds for a call that only reads memory."""
ATTEMPTS = 4
"""Broken connections in a row until a pod counts as lost."""
ATTEMPT_PAUSE = 0.05
"""Seconds before the second attempt, then twice as long each: about 0.35 s in all, so that a dead host
is known fast and a hiccup costs no warm function."""
ATTEMPT_PAUSE_MOST = 0.2
FOUND_SILENCE = 10.0
"""Seconds that a pod may be silent that was found: its container runs, and its sidecar may not listen yet. What it
does is not known so long, and changes wait for that."""
LAST_WORDS_TIMEOUT = 2.0
"""Seconds from the news of a pod's end to its last words."""
DEFAULT_GRACE_MS = 60_000
"""For a function that sets no timeout."""


async def warm(pod: Pod) -> None:
    """Makes the first real call on the channel as fast as any, once.

    Raises:
        GRPCError: the sidecar does not answer.
    """
    if pod.warm:
        return
    for _ in range(WARMING_CALLS):
        await pod.calls.get_state(pb.GetStateRequest(), timeout=CALL_TIMEOUT)
    pod.warm = True


async def drain(pod: Pod, activation: Activation, timeout: float) -> int:
    """Returns the number of requests that run, once new ones are refused.

    A handler that holds its event loop keeps the process from answering. It is asked again for
    as long as one request may take, since killing it would cost requests that run.

    Args:
        timeout: seconds for one call.

    Raises:
        GRPCError: it failed; the pod is of no use.
    """
    give_up = time.monotonic() + _grace_ms(activation) / 1000
    request = pb.DrainRequest(activation_id=activation.id)
    while True:
        try:
            return (await pod.calls.drain(request, timeout=timeout)).in_flight
        except GRPCError as error:
            held = error.status is Status.DEADLINE_EXCEEDED and pod.state is PodState.DRAINING
            if not held or time.monotonic() > give_up:
                raise


async def recycle(pod: Pod, activation: Activation, start_timeout: float) -> pb.PodState:
    """Ends an activation; requests that run get as long as one request may take.

    Args:
        start_timeout: seconds for the fresh process, after that.

    Raises:
        GRPCError: it failed; the pod is of no use.
    """
    grace_ms = _grace_ms(activation)
    request = pb.RecycleRequest(activation_id=activation.id, grace_ms=grace_ms)
    return await pod.calls.recycle(request, timeout=grace_ms / 1000 + start_timeout)


def _grace_ms(activation: Activation) -> int:
    settings = activation.function.settings
    return (settings.timeout_ms if settings is not None else 0) or DEFAULT_GRACE_MS


async def follow(
    pod: Pod,
    resolve: Callable[[Pod, pb.PodState], Awaitable[None]],
    gone: Callable[[Pod, str], None],
) -> list[pb.LogLine]:
    """Follows a pod's state until it is gone, and returns its last words.

    Once the pod is out of STARTING only its end counts: what else it does, it does on our orders, and
    their answers say so. States in the stream may be older than those.

    Args:
        resolve: called with each state for as long as the pod is STARTING.
        gone: called once, with why it is.
    """
    failures = 0
    began = time.monotonic()
    while True:
        try:
            if pod.state is not PodState.STARTING and (lost := await _contradiction(pod)):
                gone(pod, lost)
                return []
            async with reading(pod.calls.watch_state(pb.GetStateRequest())) as states:
                async for state in states:
                    failures = 0
                    if state.phase is pb.PodPhase.GONE:
                        pod.crashed = state.crashed
                        gone(pod, state.reason or "gone")
                        return await _last_words(states)
                    if pod.state is PodState.STARTING:
                        await resolve(pod, state)
            gone(pod, "its sidecar ended")
            return []
        except GRPCError as error:
            failures += 1
            # It may have a container that runs and a service that does not listen yet. How long that may take,
            # the start timeout says of one that was just asked for.
            starting = pod.state is PodState.STARTING and (
                pod.asked_at is not None or time.monotonic() - began < FOUND_SILENCE
            )
            if failures >= ATTEMPTS and not starting:
                gone(pod, f"its sidecar does not answer: {error.status.name} {error.message}")
                return []
            await asyncio.sleep(min(ATTEMPT_PAUSE * 2 ** (failures - 1), ATTEMPT_PAUSE_MOST))


async def _last_words(states: AsyncIterator[pb.PodState]) -> list[pb.LogLine]:
    """What comes after the news of the end, when the pod's output has been read to its end."""
    try:
        async with asyncio.timeout(LAST_WORDS_TIMEOUT):
            async for state in states:
                return state.last_words
    except (TimeoutError, GRPCError):
        pass  # it was deleted faster than it could speak
    return []


async def _contradiction(pod: Pod) -> str:
    """After a broken connection: why the pod is not what it was, or nothing when it is."""
    before, activation = pod.state, pod.activation
    state = await pod.calls.get_state(pb.GetStateRequest(), timeout=CALL_TIMEOUT)
    if (pod.state, pod.activation) != (before, activation):
        return ""  # an order was carried out meanwhile; its answer says what the pod is
    if state.phase is pb.PodPhase.GONE:
        return state.reason or "gone"
    if before is PodState.GENERIC and state.phase is not pb.PodPhase.GENERIC:
        return f"found {state.phase.name} instead of generic"
    if before is not PodState.ACTIVE or activation is None:
        return ""
    if state.phase is not pb.PodPhase.ACTIVE or state.activation_id != activation.id:
        return f"found {state.phase.name} instead of active as what it was activated for"
    return ""
