"""`PodProvider` on Kubernetes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Self

from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.telemetry.logs import get_logger

from sanfran_controller import metrics
from sanfran_controller.providers import (
    ControllersListed,
    NotCreated,
    PodNews,
    PodSeen,
    PodsListed,
    PodVanished,
    ProviderError,
    ProviderFull,
)
from sanfran_controller.providers.kubernetes import book
from sanfran_controller.providers.kubernetes.api import ApiError, KubeApi, Object
from sanfran_controller.providers.kubernetes.book import LeaseBook
from sanfran_controller.providers.kubernetes.calls import LEASES, PODS
from sanfran_controller.providers.kubernetes.endings import CAS_ATTEMPTS, Endings
from sanfran_controller.providers.kubernetes.events import Events
from sanfran_controller.providers.kubernetes.facts import (
    CONTROLLER,
    PROCESS,
    RELEASE,
    TERM,
    PodFacts,
    read,
)
from sanfran_controller.providers.kubernetes.gate import CreateGate
from sanfran_controller.providers.kubernetes.labels import Labels, PodTurns
from sanfran_controller.providers.kubernetes.lease import OwnLease
from sanfran_controller.providers.kubernetes.reflector import (
    SILENCE,
    Changed,
    Listed,
    Removed,
    follow,
)
from sanfran_controller.providers.kubernetes.template import PodTemplate

log = get_logger("kubernetes")

NEWS_MOST = 1000
"""News that wait to be taken; then the watch is not read."""
LOOK_EVERY = 0.5
"""Seconds between looks for Leases that ran out."""
LEAVE_PATIENCE = 2.0
"""Seconds for the API server at the stop."""
TAKE_OVER_AT_ONCE = 16
FORGET_LEASE = 60.0
"""Seconds since a Lease ran out after which it is deleted: controllers' names are pods' names, and never come back."""


class KubernetesPods:
    """See `PodProvider`. Use it with `async with`.

    Args:
        api: of the functions' namespace.
        template: what pods are made from.
        owner: the controller's name.
        process: unique to this process.
        references: `ownerReferences` of all that is made.
        about: what Events are about.
        silence: seconds; see `KubeApi.watch`.
    """

    def __init__(
        self,
        api: KubeApi,
        template: PodTemplate,
        *,
        owner: str,
        process: str,
        references: list[Object],
        about: Object,
        silence: float = SILENCE,
    ) -> None:
        self._api = api
        self._template = template
        self._owner = owner
        self._process = process
        self._references = references
        self._silence = silence
        self._leases = f"{RELEASE}={template.release}"
        # The services' own pods may bear the release's label, too.
        self._selector = f"{RELEASE}={template.release},{CONTROLLER}"
        labels = {RELEASE: template.release}
        self._lease = OwnLease(
            api, owner, process, {"labels": labels, "ownerReferences": references}
        )
        self._book = LeaseBook(owner)
        self._gate = CreateGate()
        self._turns = PodTurns()
        self._labels = Labels(api, self._turns, self._mine)
        self._events = Events(api, about, labels, process)
        self._pods: dict[str, PodFacts] = {}
        self._endings = Endings(api, self._turns, self._pods.get, (owner, process))
        self._parts = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            opening.push_async_callback(self._give_up)
            await opening.enter_async_context(self._labels)
            await opening.enter_async_context(self._events)
            self._parts = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._parts.aclose()

    async def _give_up(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_PATIENCE):
                await self._lease.give_up()
        except (ApiError, TimeoutError) as failure:
            log.debug("lease not given up", why=str(failure))

    async def create(self, name: str) -> None:
        """See `PodProvider.create`."""
        wait = self._gate.enter(time.monotonic())
        try:
            await asyncio.sleep(wait)
            pod = self._template.make(
                name, owner=self._owner, process=self._process, references=self._references
            )
            await self._api.create(PODS, pod)
        except ApiError as error:
            raise self._refused(error) from error
        except BaseException:
            self._gate.left()
            raise
        self._gate.worked()

    def describe(self, name: str, function: str, version: int) -> None:
        """See `PodProvider.describe`: labels follow in a moment."""
        self._labels.want(name, function, str(version) if function else "")

    async def delete(self, name: str) -> None:
        """See `PodProvider.delete`."""
        await self._endings.end(name)

    async def renew(self, address: str) -> None:
        """See `PodProvider.renew`."""
        await self._lease.renew(address)

    async def adopt(self, pod: PodSeen) -> None:
        """See `PodProvider.adopt`."""
        facts = self._pods.get(pod.name)
        if facts is None or facts.term != pod.term:
            raise ProviderError(f"pod {pod.name} is gone, or has changed hands")
        async with self._turns.turn(pod.name):
            await self._take_over(facts)

    async def watch(self) -> AsyncGenerator[PodNews]:
        """See `PodProvider.watch`."""
        news: asyncio.Queue[PodNews] = asyncio.Queue(NEWS_MOST)
        async with OwnedTasks("kubernetes") as tasks:
            listed = asyncio.Event()
            tasks.loop(self._follow_leases(news, listed), name="watch leases")
            await listed.wait()
            tasks.loop(self._follow_pods(news), name="watch pods")
            while True:
                yield await news.get()

    # -- leases

    async def _follow_leases(self, news: asyncio.Queue[PodNews], listed: asyncio.Event) -> None:
        told: ControllersListed | None = None

        async def tell() -> None:
            nonlocal told
            live = ControllersListed(self._book.live(time.monotonic()))
            if live != told:
                told = live
                await news.put(live)

        async def look() -> None:
            await listed.wait()
            while True:
                await asyncio.sleep(LOOK_EVERY)
                await tell()
                await self._clear_leases()

        async with OwnedTasks("leases") as tasks:
            tasks.loop(look(), name="look for leases that ran out")
            silence = min(self._silence, book.SILENCE)
            changes = follow(self._api, LEASES, self._leases, silence=silence)
            async with aclosing(changes) as following:
                async for change in following:
                    now = time.monotonic()
                    match change:
                        case Listed(leases):
                            self._book.listed(leases, now)
                        case Changed(lease):
                            self._book.saw(lease, now)
                        case Removed(lease):
                            self._book.gone(lease["metadata"]["name"])
                    await tell()
                    listed.set()

    async def _clear_leases(self) -> None:
        owners = {facts.owner for facts in self._pods.values()}
        for name, version in self._book.expired(time.monotonic(), FORGET_LEASE):
            if name not in owners:
                self._book.gone(name)
                with suppress(ApiError):
                    await self._api.delete(LEASES, name, only_if={"resourceVersion": version})

    # -- pods

    async def _follow_pods(self, news: asyncio.Queue[PodNews]) -> None:
        changes = follow(self._api, PODS, self._selector, silence=self._silence)
        async with aclosing(changes) as following:
            async for change in following:
                match change:
                    case Listed(pods):
                        for gone in await self._relist(pods):
                            await news.put(PodVanished(gone))
                        await news.put(
                            PodsListed(tuple(self._seen(facts) for facts in self._pods.values()))
                        )
                    case Changed(pod):
                        for one in self._saw(pod):
                            await news.put(one)
                    case Removed(pod):
                        name = pod["metadata"]["name"]
                        facts = self._pods.get(name)
                        if facts is not None and facts.uid == pod["metadata"]["uid"]:
                            self._forget(name)
                            await news.put(PodVanished(name))
                metrics.KUBERNETES_PODS.set(len(self._pods))

    async def _relist(self, pods: list[Object]) -> list[str]:
        """Takes all pods there are; returns the names of those that are gone, also where another has the name now."""
        found = {}
        for pod in pods:
            facts = read(pod, self._pods.get(pod["metadata"]["name"]))
            found[facts.name] = facts
        gone = [
            name
            for name, facts in self._pods.items()
            if name not in found or found[name].uid != facts.uid
        ]
        for name in gone:
            self._forget(name)
        self._pods.clear()
        self._pods.update(found)
        # Those of a former process of this name, before they are told of: nobody else is to have them.
        places = asyncio.Semaphore(TAKE_OVER_AT_ONCE)

        async def take_over(facts: PodFacts) -> None:
            async with places:
                with suppress(ProviderError):  # then they are told of as orphans
                    self._pods[facts.name] = await self._take_over(facts)

        async with asyncio.TaskGroup() as group:
            for facts in tuple(found.values()):
                if facts.owner == self._owner and facts.process != self._process:
                    group.create_task(take_over(facts), name=f"take over {facts.name}")
        return gone

    def _saw(self, pod: Object) -> list[PodNews]:
        before = self._pods.get(pod["metadata"]["name"])
        facts = read(pod, before)
        news: list[PodNews] = []
        if before is not None and facts.is_older_than(before):
            return news  # it changed between the list and its taking over
        if before is not None and before.uid != facts.uid:
            self._forget(before.name)
            news.append(PodVanished(before.name))
            before = None
        if before is not None and before.term != facts.term:
            self._labels.forget(facts.name)  # its owner meanwhile may have written others
        self._pods[facts.name] = facts
        if facts.unschedulable and facts.owner == self._owner:
            self._events.warn("NoRoom", f"pod {facts.name}: {facts.unschedulable}")
        elif facts.waits and facts.owner == self._owner:
            self._events.warn("PodDoesNotStart", f"pod {facts.name}: {facts.waits}")
        seen = self._seen(facts)
        if before is None or seen != self._seen(before):
            news.append(seen)
        return news

    def _forget(self, name: str) -> None:
        self._pods.pop(name, None)
        self._labels.forget(name)
        self._endings.over(name)

    def _seen(self, facts: PodFacts) -> PodSeen:
        own = facts.owner == self._owner and facts.process != self._process
        return PodSeen(
            name=facts.name,
            # What is another process's of the same name has an owner that does not live.
            owner=f"{facts.owner}/{facts.process}" if own else facts.owner,
            sidecar_address=_join(facts.address, self._template.port) if facts.address else "",
            ready=facts.running and not facts.lost,
            term=facts.term,
            lost=facts.lost,
            stuck=facts.unschedulable,
            waits=facts.waits,
            outdated=facts.template != self._template.digest,
        )

    def _mine(self, name: str) -> PodFacts | None:
        facts = self._pods.get(name)
        if facts is None or facts.owner != self._owner or facts.process != self._process:
            return None
        return facts

    # -- writes

    async def _take_over(self, facts: PodFacts) -> PodFacts:
        """Compare-and-set on the term, under this process's name. The watch tells of it, too.

        Raises:
            ProviderError: somebody else was faster, or it could not be done.
        """
        term = facts.term
        for _ in range(CAS_ATTEMPTS):
            change = {
                "metadata": {
                    "uid": facts.uid,
                    "resourceVersion": facts.version,
                    "labels": {CONTROLLER: self._owner},
                    "annotations": {TERM: str(term + 1), PROCESS: self._process},
                }
            }
            try:
                return read(await self._api.patch(PODS, facts.name, change), facts)
            except ApiError as error:
                if error.status != 409:
                    raise
            facts = read(await self._api.get(PODS, facts.name), facts)
            if facts.term != term:
                break
        raise ProviderError(f"pod {facts.name} has changed hands, or changes all the time")

    def _refused(self, error: ApiError) -> ProviderError:
        """What a create that failed means, for whoever asked and for all that follow."""
        now = time.monotonic()
        metrics.KUBERNETES_REFUSALS.labels(str(error.status or "unreachable")).inc()
        quota = error.status == 403 and "exceeded quota" in error.message
        if error.status == 409:
            self._gate.worked()  # the name is taken, which says nothing about others
            return NotCreated(str(error))
        why = f"no room: {error.message}" if quota else f"creates fail: {error}"
        self._gate.refused(now, why, full=quota, after=error.retry_after)
        self._events.warn("QuotaExceeded" if quota else "CreateFailed", error.message)
        if quota:
            return ProviderFull(why)
        # Of others it is not known what became of them.
        return NotCreated(why) if 400 <= error.status < 500 else error


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
