"""This controller's pods: found, started, attended, deleted. How activations end is a part of its own: `partings`.

What the provider tells becomes `Pod` records; `pool` decides how many generic ones there should be. Each
pod that is ready has one attendant: a task that holds the open channel to its sidecar, warms it,
and follows the pod's state, so that a crash is known at once. What a pod is used for is the
listener's business (see `FleetListener`).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from types import TracebackType
from typing import Self

from sanfran_common.lifecycle import TaskOwner
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.tls import ClientTls
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_controller import metrics, sidecars
from sanfran_controller.decisions import Decisions
from sanfran_controller.deletions import Deletions
from sanfran_controller.errors import Barren
from sanfran_controller.listener import FleetListener
from sanfran_controller.partings import Partings
from sanfran_controller.pods import Activation, Pod
from sanfran_controller.pool import Pool, PoolAction, PoolFacts
from sanfran_controller.providers import (
    NotCreated,
    PodNews,
    PodProvider,
    PodSeen,
    PodsListed,
    PodVanished,
    ProviderError,
    ProviderFull,
)
from sanfran_controller.record import Record
from sanfran_controller.states import PodEvent, PodState
from sanfran_controller.stock import Stock

log = get_logger("fleet")

REFILL_PAUSE = 0.02
"""Seconds. A claim from a pool that has more is followed by the activation itself: starting the
next process in the same milliseconds would take the cores from it. Cold calls as in bench/cold.py on two
busy cores: p50 24 and 31 ms without, 18 and 20 ms with it; 0.05 gained nothing."""
FOUND_TIMEOUT = 90.0
"""Seconds for a pod that a former controller process left recycling: requests may still run in it."""


class Fleet(TaskOwner):
    """Runs while its `async with` lasts. Leaving it leaves every pod as it is.

    Args:
        provider: where pods come from.
        pool: decides how many generic pods there should be.
        owner: this controller's name.
        prefix: what new pods' names begin with; empty: with `owner`.
        replace_pods: a pod whose activation ends is deleted, and not made generic again.
        secret: for calls to sidecars.
        tls: for connections to them.
        start_timeout: seconds until a pod that does not become generic is given up.
        claims_most: claims that may wait.
    """

    def __init__(
        self,
        provider: PodProvider,
        pool: Pool,
        *,
        owner: str,
        secret: str = "",
        tls: ClientTls | None = None,
        prefix: str = "",
        replace_pods: bool = False,
        start_timeout: float = 30.0,
        claims_most: int = 10_000,
    ) -> None:
        super().__init__("fleet")
        self.pods: dict[str, Pod] = {}
        self.stock = Stock(pool, claims_most=claims_most)
        self.listed = asyncio.Event()  # the provider has told of every pod once
        self.decisions = Decisions()
        self.record = Record(owner)
        self._provider = provider
        self._pool = pool
        self._limits = pool.limits  # of all controllers together
        self._owner = owner
        self._prefix = prefix or owner
        self._secret = secret
        self._tls = tls
        self._start_timeout = start_timeout
        self._leaving = Deletions(provider, self._tasks, self._deleted)
        self.partings = Partings(
            self.stock,
            self._tasks,
            self._leaving,
            end=self.end,
            said=lambda activation, words: self.listener.said(activation, words),  # attached later
            replace_pods=replace_pods,
            start_timeout=start_timeout,
        )
        self._leaves_all = False  # this process stops, and its pods go on
        self._listener: FleetListener | None = None
        self.stock.on_step = self._describe

    def attach(self, listener: FleetListener) -> None:
        """Sets who uses the pods; before the fleet is entered."""
        self._listener = listener

    @property
    def listener(self) -> FleetListener:
        """Who uses the pods."""
        assert self._listener is not None, "attach() comes before entering"
        return self._listener

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._tasks.loop(self._watch(), name="watch pods")
        self._tasks.loop(self._keep_pool(), name="keep the pool")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leaves_all = True
        await super().__aexit__(kind, error, trace)

    async def settle(self, patience: float) -> None:
        """Returns when it is known what every pod that exists runs, and those that run what is not wanted
        refuse requests, or after `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                await self.listed.wait()
                for pod in tuple(self.pods.values()):
                    if pod.asked_at is None:
                        await pod.resolved.wait()
        except TimeoutError:
            log.warning("not every pod could be asked what it runs", patience=patience)

    @property
    def pool(self) -> Pool:
        """What decides how many generic pods there should be."""
        return self._pool

    def facts(self) -> PoolFacts:
        """How things stand."""
        return self.stock.facts(len(self._leaving))

    def end(self, pod: Pod, why: str, *, expected: bool = False, exists: bool = True) -> None:
        """The pod is of no use any more: out of every list, and deleted.

        Args:
            why: for logs.
            expected: it was decided, not suffered.
            exists: False when the provider says that it is gone already.
        """
        if pod.state is PodState.GONE or self._leaves_all:
            return
        if pod.state is PodState.STARTING and pod.asked_at is not None:
            self._pool.start_failed(time.monotonic(), pod.asked_at, why)
            metrics.STARTS.labels("failed").inc()
        (log.info if expected else log.warning)("pod ends", pod=pod.name, why=why)
        if not expected:
            metrics.LOST.inc()
        self.pods.pop(pod.name, None)
        self.stock.step(pod, PodEvent.LOST)
        # One that served goes on until its sidecar has told its last words.
        attendant = pod.attendant if pod.activation is None else None
        if attendant is not None and attendant is not asyncio.current_task():
            attendant.cancel()
        if exists:
            self._leaving.begin(pod.name)
        if pod.activation is not None:
            self.listener.lost(pod)

    # -- what the provider tells

    async def _watch(self) -> None:
        async for news in self._provider.watch():
            self._take(news)

    def _take(self, news: PodNews) -> None:
        match news:
            case PodSeen():
                self._saw(news)
            case PodVanished(name):
                self._vanished(name)
            case PodsListed(pods):
                present = {seen.name for seen in pods}
                known = [pod.name for pod in self.pods.values() if pod.term is not None]
                for name in [*known, *self._leaving]:
                    if name not in present:
                        self._vanished(name)
                for seen in pods:
                    self._saw(seen)
                self._pool.provider_back()
                self.listed.set()
        # After the match: it is not accounted for before pods that were found are known.
        self.record.take(news)
        self._pool.limits = self.record.ownership.share(self._limits)
        self.stock.changed.set()

    def _saw(self, seen: PodSeen) -> None:
        pod = self.pods.get(seen.name)
        if pod is not None and pod.term is not None and pod.term != seen.term:
            self._let_go(pod)
            pod = None
        if seen.owner != self._owner:
            self._leaving.over(seen.name)
            return
        if seen.name in self._leaving:
            return
        if seen.lost:
            if pod is not None:
                self.end(pod, seen.lost)
            else:
                self._leaving.begin(seen.name)
            return
        if pod is None:
            pod = self._enter(Pod(seen.name, None))
            self.record.found(pod.name)
            self._tasks.spawn(self._expect(pod, FOUND_TIMEOUT), name=f"expect {pod.name}")
        pod.term = seen.term
        pod.waits = seen.stuck or seen.waits
        pod.outdated = seen.outdated
        self.stock.stuck(pod, seen.stuck)
        if seen.ready and seen.sidecar_address and pod.attendant is None:
            pod.attendant = self._tasks.spawn(
                self._attend(pod, seen.sidecar_address, seen.term), name=f"attend {pod.name}"
            )

    def _let_go(self, pod: Pod) -> None:
        """It was adopted by another controller, which took this one for dead; it goes on there."""
        attendant = pod.attendant
        self.end(pod, "it has another owner", expected=True, exists=False)
        self.record.known(pod.name)
        if attendant is not None:
            attendant.cancel()

    def _vanished(self, name: str) -> None:
        self._leaving.over(name)
        self.record.known(name)
        pod = self.pods.get(name)
        if pod is not None:
            self.end(pod, "its host says that it is gone", exists=False)

    def _describe(self, pod: Pod) -> None:
        if pod.state is PodState.ACTIVE and pod.activation is not None:
            function = pod.activation.function
            self._provider.describe(pod.name, function.name, function.version)
        elif pod.state in (PodState.RECYCLING, PodState.GENERIC) and pod.term is not None:
            self._provider.describe(pod.name, "", 0)

    def _enter(self, pod: Pod) -> Pod:
        self.pods[pod.name] = pod
        self.stock.enter(pod)
        return pod

    # -- the pool

    async def _keep_pool(self) -> None:
        changed = self.stock.changed
        await self.listed.wait()  # else pods that are there already would be started again
        while True:
            changed.clear()
            now = time.monotonic()
            facts = self.facts()
            if self.stock.no_room:
                self._pool.provider_full(facts.pods, now, self.stock.no_room)
            if facts.waiting and self._barren(facts, now):
                self.stock.refuse_claims(Barren("no pod is here, and none can be had"))
                facts = self.facts()
            action = self._pool.decide(facts, now)
            self._act(action, facts)
            outdated = self.stock.outdated()
            # One after another, and no further when those of the new template do not start.
            under_way = action.start or facts.arriving or facts.waiting
            if outdated and not (under_way or self._pool.failing):
                self.end(outdated, "made from a former template", expected=True)
            again_at = action.again_at
            try:
                async with asyncio.timeout(None if again_at is None else max(again_at - now, 0.01)):
                    await changed.wait()
            except TimeoutError:
                pass
            if not self.stock.waiting and self.stock.idle:
                await asyncio.sleep(REFILL_PAUSE)

    def _barren(self, facts: PoolFacts, now: float) -> bool:
        """Whether whoever waits here waits in vain, and had better ask another controller: no pod of this one
        serves or comes, so that none can be taken from anybody, and no further one may be started."""
        if facts.coming > 0 or facts.ending or self._pool.room(facts, now):
            return False
        serve = self.stock.count(PodState.ACTIVE) + self.stock.count(PodState.ACTIVATING)
        return not serve and len(self.record.ownership.live()) > 1

    def _act(self, action: PoolAction, facts: PoolFacts) -> None:
        for _ in range(action.start):
            pod = self._enter(
                Pod(f"{self._prefix}-{secrets.token_hex(5)}", asked_at=time.monotonic())
            )
            self._tasks.spawn(self._start(pod), name=f"start {pod.name}")
        for pod in self.stock.oldest_idle(action.stop):
            self.end(pod, action.why, expected=True)
        reclaimed = action.reclaim and self.listener.reclaim(action.reclaim, action.from_busy)
        if reclaimed < action.reclaim:
            self._pool.none_idle(time.monotonic())
        self.decisions.pool(action, facts, reclaimed)

    async def _start(self, pod: Pod) -> None:
        try:
            await self._provider.create(pod.name)
        except ProviderFull as error:
            self._pool.provider_full(self.facts().pods - 1, time.monotonic(), str(error))
            pod.asked_at = None  # not a start that failed
            self.end(pod, f"not created: {error}", expected=True, exists=False)
            return
        except NotCreated as error:
            self.end(pod, f"not created: {error}", exists=False)
            return
        except ProviderError as error:
            # It may have been created all the same: hence not only forgotten, but deleted.
            self.end(pod, f"not created: {error}")
            return
        await self._expect(pod, self._start_timeout)

    async def _expect(self, pod: Pod, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await pod.resolved.wait()
        except TimeoutError:
            because = f": {pod.waits}" if pod.waits else ""
            self.end(pod, f"not ready after {timeout:g} s{because}")

    def _deleted(self, name: str) -> None:
        self.record.known(name)
        self.stock.changed.set()

    # -- one pod

    async def _attend(self, pod: Pod, address: str, term: int) -> None:
        async with RpcClient(address, secret=self._secret, term=term, tls=self._tls) as client:
            pod.sidecar = pb.SidecarStub(client.channel)
            words = await sidecars.follow(pod, self._resolve, self.end)
            if pod.activation is not None:
                self.listener.said(pod.activation, words)
            if pod.log_readers:  # they read over this channel, and have what is left in a moment
                await asyncio.wait(pod.log_readers, timeout=sidecars.LAST_WORDS_TIMEOUT)

    async def _resolve(self, pod: Pod, state: pb.PodState) -> None:
        """A pod tells its state for the first time: what becomes of it."""
        if await self._settle(pod, state):
            self.record.known(pod.name)

    async def _settle(self, pod: Pod, state: pb.PodState) -> bool:
        """Returns whether it is known by then that it does what is wanted, or refuses requests."""
        if state.phase is not pb.PodPhase.ACTIVATING:
            pod.answered.set()
        match state.phase:
            case pb.PodPhase.GENERIC:
                if not self.stock.waiting:  # else the first real call does
                    await sidecars.warm(pod)
                pod.address = state.address
                if pod.asked_at is not None:
                    took = time.monotonic() - pod.asked_at
                    self._pool.started(took, time.monotonic())
                    metrics.STARTS.labels("ready").inc()
                    metrics.START_SECONDS.observe(took)
                self.stock.step(pod, PodEvent.WARMED)
            case pb.PodPhase.ACTIVATING:
                activation = Activation(state.activation_id, state.function or pb.FunctionVersion())
                pod.address = state.address
                if not await self.listener.found_loading(pod, activation):
                    # Its next state tells what became of the load. `settle` waits for that, and so do updates.
                    self.partings.outlast(pod)
                    return False
            case pb.PodPhase.ACTIVE | pb.PodPhase.DRAINING:
                activation = Activation(state.activation_id, state.function or pb.FunctionVersion())
                if state.phase is pb.PodPhase.ACTIVE:
                    pod.address = state.address
                    if await self.listener.found(pod, activation):
                        return True
                    # `settle` waits for this, and updates are acknowledged only after it.
                    await self.partings.fence(pod, activation)
                log.info("pod left behind, recycled", pod=pod.name, phase=state.phase.name)
                self.partings.recycle(pod, activation)
            case pb.PodPhase.STARTING if not self.stock.waiting:
                await sidecars.warm(pod)
            case _:
                pass  # starting or recycling: the next state tells more
        return True
