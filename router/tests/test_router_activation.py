"""The queue in front of cold and saturated functions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from sanfran_common.lifecycle import OwnedTasks
from sanfran_router import errors
from sanfran_router.activation import Activator
from sanfran_router.errors import Problem, Refusal
from sanfran_router.function import Endpoint, EndpointFacts, Function, RouteFacts
from sanfran_router.table import Table


class Waiting:
    """A request in the queue."""

    def __init__(self, rig: Rig, held: int = 0) -> None:
        self.rig = rig
        self.held = held
        self.goes_early = True
        self.granted = True
        self.rerouted = False
        self.endpoint: Endpoint | None = None
        self.problem: Problem | None = None
        self.done = asyncio.Event()

    def reroute(self) -> None:
        self.rerouted = True

    def assign(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        endpoint.in_flight += 1
        self.done.set()

    def refuse(self, problem: Problem) -> None:
        self.problem = problem
        self.done.set()

    def release(self) -> None:
        assert self.endpoint is not None
        self.endpoint.in_flight -= 1
        self.rig.activator.dispatch(self.rig.function)


class Rig:
    """An activator and a controller in the test's hands."""

    def __init__(
        self, spawn: Callable[[Coroutine[Any, Any, None], str], object], **sizes: int
    ) -> None:
        self.table = Table()
        self.function: Function = self.table.function("hello")
        self.asked: list[tuple[str, bool]] = []
        self.answers: asyncio.Queue[RouteFacts | Problem] = asyncio.Queue()
        sizes = {"queue_size": 10, "queue_total": 20, "queue_bytes": 100, **sizes}
        self.activator = Activator(self.table, self.ask, spawn, timeout=5.0, **sizes)
        self.was_asked = asyncio.Event()
        self._sequence = 0

    async def ask(self, name: str, saturated: bool, early: bool, timeout: float) -> RouteFacts:
        self.asked.append((name, saturated))
        self.was_asked.set()
        answer = await self.answers.get()
        if isinstance(answer, Problem):
            raise Refusal(answer)
        return answer

    def route(self, *pods: str, concurrency: int = 1) -> RouteFacts:
        self._sequence += 1
        told = tuple(EndpointFacts(address=pod, activation_id=pod) for pod in pods)
        return RouteFacts(
            name="hello",
            controller="c",
            sequence=self._sequence,
            endpoints=told,
            concurrency=concurrency,
        )

    def wait(self) -> Waiting:
        waiter = Waiting(self)
        problem = self.activator.wait(self.function, waiter)
        if problem is not None:
            waiter.refuse(problem)
        return waiter


@asynccontextmanager
async def rig(**sizes: int) -> AsyncIterator[Rig]:
    async with asyncio.timeout(10), OwnedTasks("test") as tasks:
        yield Rig(lambda work, name: tasks.spawn(work, name=name), **sizes)


async def test_everyone_who_waits_shares_one_activation() -> None:
    async with rig() as it:
        waiters = [it.wait() for _ in range(5)]
        await asyncio.sleep(0)
        waiters.append(it.wait())
        it.answers.put_nowait(it.route("a", concurrency=10))
        for waiter in waiters:
            await waiter.done.wait()
        assert it.asked == [("hello", False)]
        assert it.activator.waiting == 0


async def test_a_full_queue_refuses_at_once() -> None:
    async with rig(queue_size=2) as it:
        it.wait(), it.wait()
        assert it.wait().problem is errors.QUEUE_FULL
    async with rig(queue_total=2) as it:
        it.wait(), it.wait()
        other = it.table.function("other")
        assert it.activator.wait(other, Waiting(it)) is errors.QUEUE_FULL


@pytest.mark.parametrize("problem", [errors.NOT_FOUND, errors.LOAD_FAILED, errors.NO_CAPACITY])
async def test_a_refused_activation_answers_all_who_wait_and_leaves_nothing(
    problem: Problem,
) -> None:
    async with rig() as it:
        waiters = [it.wait(), it.wait()]
        it.answers.put_nowait(problem)
        for waiter in waiters:
            await waiter.done.wait()
            assert waiter.problem is problem
        await asyncio.sleep(0)
        assert it.table.functions == {}


async def test_freed_capacity_goes_to_waiters_in_their_order() -> None:
    async with rig() as it:
        it.table.apply(it.route("a"))
        first, second, third = it.wait(), it.wait(), it.wait()
        it.activator.dispatch(it.function)
        assert first.endpoint is not None
        assert second.endpoint is None
        first.release()
        assert second.endpoint is not None
        assert third.endpoint is None


async def test_a_waiter_that_leaves_in_the_tick_that_wakes_it_passes_the_place_on() -> None:
    async with rig() as it:
        it.table.apply(it.route("a"))
        holder, leaver, heir = it.wait(), it.wait(), it.wait()
        it.activator.dispatch(it.function)
        assert holder.endpoint is not None
        loop = asyncio.get_running_loop()

        def wake_and_leave() -> None:
            holder.release()
            assert leaver.endpoint is not None, "woken"
            leaver.release()  # what a request whose client has gone does

        loop.call_soon(wake_and_leave)
        await heir.done.wait()
        assert heir.endpoint is not None
        assert it.function.endpoints[0].in_flight == 1
        assert it.activator.waiting == 0


async def test_a_waiter_that_leaves_before_is_skipped() -> None:
    async with rig() as it:
        leaver, heir = it.wait(), it.wait()
        it.activator.leave(it.function, leaver)
        it.activator.leave(it.function, leaver)
        it.answers.put_nowait(it.route("a"))
        await heir.done.wait()
        assert leaver.endpoint is None
        assert it.activator.waiting == 0


async def test_saturation_asks_for_one_more_at_once_and_again_while_it_helps() -> None:
    async with rig() as it:
        it.table.apply(it.route("a"))
        it.function.endpoints[0].in_flight = 1
        waiters = [it.wait(), it.wait()]
        it.answers.put_nowait(it.route("a", "b"))
        await waiters[0].done.wait()
        it.answers.put_nowait(it.route("a", "b", "c"))
        await waiters[1].done.wait()
        assert it.asked == [("hello", True), ("hello", True)]


async def test_a_saturated_function_at_its_limit_goes_on_waiting() -> None:
    async with rig() as it:
        it.table.apply(it.route("a"))
        it.function.endpoints[0].in_flight = 1
        waiter = it.wait()
        it.answers.put_nowait(errors.NO_CAPACITY)
        await it.was_asked.wait()
        assert not waiter.done.is_set()
        it.function.endpoints[0].in_flight = 0
        it.activator.dispatch(it.function)
        assert waiter.endpoint is not None


async def test_a_request_that_lost_its_pod_goes_to_the_front() -> None:
    async with rig() as it:
        first = it.wait()
        again = Waiting(it)
        it.activator.wait(it.function, again, again=True)
        it.answers.put_nowait(it.route("a"))
        await again.done.wait()
        assert first.endpoint is None


async def test_a_deletion_answers_all_who_wait() -> None:
    async with rig() as it:
        waiter = it.wait()
        it.table.apply(RouteFacts(name="hello", controller="c", sequence=9, deleted=True))
        it.activator.dispatch(it.function)
        assert waiter.problem is errors.NOT_FOUND


async def test_whoever_waits_for_a_function_that_turns_private_is_not_asked_for_any_more() -> None:
    async with rig() as it:
        stranger, known = it.wait(), it.wait()
        stranger.granted = False
        await asyncio.sleep(0)
        # Told by a watch, without any pod: the next question would say that all who wait may.
        it.table.apply(replace(it.route(), private=True))
        it.activator.dispatch(it.function)
        assert stranger.rerouted
        assert not known.rerouted
        assert it.activator.waiting == 1
        it.answers.put_nowait(replace(it.route("a"), private=True))
        await known.done.wait()
        assert stranger.endpoint is None
