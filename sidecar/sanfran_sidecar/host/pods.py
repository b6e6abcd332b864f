"""The pods of a host: made, watched, forgotten when gone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from prometheus_client import Gauge
from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.rpc.server import RpcServer
from sanfran_common.rpc.term import TermFence
from sanfran_common.rpc.tls import Tls
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_sidecar.errors import BadRequest, HostFull, NameTaken, NotOwner, Stopping
from sanfran_sidecar.parts import PodParts
from sanfran_sidecar.pod import Pod
from sanfran_sidecar.service import Sidecar
from sanfran_sidecar.state import Phase
from sanfran_sidecar.waiting import Changes, fail

log = get_logger("host")

PODS = Gauge("sanfran_pod_host_pods", "Pods that exist")
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
LAST_ANSWERS = 0.5
"""Seconds for calls that learn of a pod's end to get their answer, before its server closes."""


@dataclass(slots=True, eq=False)
class Hosted:
    """A pod and what the host knows of it."""

    name: str
    controller: str
    pod: Pod
    term: int = 1
    """Grows with every change of its owner."""
    address: str = ""
    ready: bool = False
    served: asyncio.Future[None] = field(default_factory=lambda: _future())
    """Done when its service listens, or why it does not."""
    ended: asyncio.Future[None] = field(default_factory=lambda: _future())
    """Done when nothing is left of it."""

    def message(self) -> pb.Pod:
        """What callers see."""
        return pb.Pod(
            name=self.name,
            controller=self.controller,
            sidecar_address=self.address,
            ready=self.ready,
            term=self.term,
        )


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


class HostedPods:
    """All pods of the host. Use it with `tasks` of its owner; `stop` ends it in order.

    Args:
        parts: makes pods.
        tasks: owns a task for each pod.
        max_pods: that may exist at once.
        over_tcp: the pods' services listen on 127.0.0.1 instead of Unix sockets.
        secret: that callers of the pods' services must send.
        tls: of those services.
    """

    def __init__(
        self,
        parts: PodParts,
        tasks: OwnedTasks,
        *,
        max_pods: int,
        over_tcp: bool,
        secret: str,
        tls: Tls,
    ) -> None:
        self._parts = parts
        self._tasks = tasks
        self._max_pods = max_pods
        self._over_tcp = over_tcp
        self._secret = secret
        self._tls = tls
        self._pods: dict[str, Hosted] = {}
        self._ending: set[asyncio.Future[None]] = set()
        self._watchers: set[Watcher] = set()
        self._stopping = False

    async def create(self, name: str, controller: str) -> pb.Pod:
        """A pod that exists, ready or not. A repeat by the same controller gives the same pod.

        Raises:
            BadRequest: the name is not a DNS subdomain.
            NameTaken: another controller has a pod of that name.
            HostFull: at the limit.
            Stopping: the host makes no more pods.
            OSError: its service cannot listen.
        """
        if not NAME.fullmatch(name):
            raise BadRequest(f"name: {name!r} is not lowercase letters, digits, - and .; try pod-1")
        hosted = self._pods.get(name)
        if hosted is None:
            if self._stopping:
                raise Stopping("the host stops")
            if len(self._pods) >= self._max_pods:
                raise HostFull(f"the host has its {self._max_pods} pods")
            pod = self._parts.make_pod(name, lambda phase: self._on_phase(made, phase))
            made = hosted = self._pods[name] = Hosted(name, controller, pod)
            self._ending.add(made.ended)
            PODS.set(len(self._pods))
            self._tasks.spawn(self._host(hosted), name=f"pod {name}")
        elif hosted.controller != controller:
            raise NameTaken(f"pod {name} belongs to controller {hosted.controller}")
        await asyncio.shield(hosted.served)
        return hosted.message()

    async def delete(self, name: str) -> None:
        """Kills the pod; returns when nothing is left of it. One that is not there is fine."""
        hosted = self._pods.get(name)
        if hosted is not None:
            hosted.pod.end("deleted")
            await asyncio.shield(hosted.ended)

    def get(self, name: str) -> Hosted | None:
        """A pod that exists."""
        return self._pods.get(name)

    def hand_over(self, hosted: Hosted, controller: str) -> None:
        """The pod is that controller's from now on, under a new term."""
        hosted.controller = controller
        hosted.term += 1
        if hosted.address:
            self.tell(lambda watcher: watcher.put(hosted.message()))

    def owned_by(self, controller: str) -> list[Hosted]:
        """A controller's pods."""
        return [hosted for hosted in self._pods.values() if hosted.controller == controller]

    async def watch(self, watcher: Watcher) -> AsyncGenerator[pb.PodEvent, None]:
        """Every pod, `synced`, then changes; of each pod only the newest one is kept waiting.

        Raises:
            NotOwner: see `Watcher.end`.
        """
        for hosted in self._pods.values():
            if hosted.address:
                watcher.put(hosted.message())
        self._watchers.add(watcher)
        try:
            for event in watcher.take():
                yield event
            yield pb.PodEvent(synced=pb.PodsSynced())
            while True:
                seen = watcher.changes.count
                for event in watcher.take():
                    yield event
                await watcher.changes.wait(seen)
        finally:
            self._watchers.discard(watcher)

    async def stop(self, grace: float) -> None:
        """Takes no more pods, lets running requests end for `grace` seconds, ends all pods."""
        self._stopping = True
        pods = [hosted.pod for hosted in self._pods.values()]
        async with asyncio.TaskGroup() as group:
            for pod in pods:
                group.create_task(pod.quiesce(grace), name=f"quiesce {pod.name}")
        for pod in pods:
            pod.end("the host stops")
        if self._ending:
            await asyncio.wait(self._ending)

    async def _host(self, hosted: Hosted) -> None:
        """One pod's life, its service around it."""
        pod = hosted.pod
        address = "127.0.0.1:0" if self._over_tcp else f"unix:{self._parts.run.new_socket()}"
        try:
            async with RpcServer(
                [Sidecar(pod)], address, secret=self._secret, fence=TermFence(), tls=self._tls
            ) as server:
                hosted.address = server.address
                hosted.served.set_result(None)
                self.tell(lambda watcher: watcher.put(hosted.message()))
                await pod.run()
                await pod.readers.wait_nobody(LAST_ANSWERS)
                await server.drain(LAST_ANSWERS)
        except OSError as error:
            log.error("pod not served", pod=hosted.name, error=str(error))
            if not hosted.served.done():
                fail(hosted.served, error)
        finally:
            pod.end("the host stops")
            # Only now: who watches the pod itself knows already, and has its last words.
            if hosted.name not in self._pods:  # else the name has a new pod, which was told of
                self.tell(lambda watcher: watcher.gone(hosted.name))
            hosted.served.cancel()  # no effect once it is done
            hosted.ended.set_result(None)
            self._ending.discard(hosted.ended)

    def _on_phase(self, hosted: Hosted, phase: Phase) -> None:
        if phase is Phase.GONE:
            if self._pods.get(hosted.name) is hosted:
                del self._pods[hosted.name]
                PODS.set(len(self._pods))
        elif phase is Phase.GENERIC and not hosted.ready:
            hosted.ready = True
            self.tell(lambda watcher: watcher.put(hosted.message()))

    def tell(self, what: Callable[[Watcher], None]) -> None:
        """Tells everybody who watches."""
        for watcher in self._watchers:
            what(watcher)


class Watcher:
    """What one caller has not been told yet.

    Bounded by twice the pods that may exist: one event per pod, and an end is kept only for a pod
    that the caller knows of; and one that names the controllers.
    """

    def __init__(self) -> None:
        self.changes = Changes()
        self._known: set[str] = set()
        self._waiting: dict[str, pb.PodEvent] = {}
        self._controllers: pb.PodEvent | None = None
        self._ended: NotOwner | None = None

    def controllers(self, live: pb.LiveControllers) -> None:
        """All that live now."""
        self._controllers = pb.PodEvent(controllers=live)
        self.changes.notify()

    def end(self, why: NotOwner) -> None:
        """It is told nothing more but why."""
        self._ended = why
        self.changes.notify()

    def put(self, pod: pb.Pod) -> None:
        """A pod is new, or changed."""
        self._waiting[pod.name] = pb.PodEvent(put=pod)
        self.changes.notify()

    def gone(self, name: str) -> None:
        """A pod is no more."""
        self._waiting.pop(name, None)
        if name in self._known:
            self._waiting[name] = pb.PodEvent(gone=name)
            self.changes.notify()

    def take(self) -> list[pb.PodEvent]:
        """What is to be told next.

        Raises:
            NotOwner: see `end`.
        """
        if self._ended is not None:
            raise self._ended
        events = list(self._waiting.values())
        self._waiting.clear()
        for event in events:
            if event.put is not None:
                self._known.add(event.put.name)
            else:
                self._known.discard(event.gone or "")
        if self._controllers is not None:
            events.append(self._controllers)
            self._controllers = None
        return events
