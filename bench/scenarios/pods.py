"""Pods without processes, and where they come from. Calls to their sidecars go through the real
stubs; only the wire is missing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from grpclib import GRPCError, Status
from sanfran_controller.providers import (
    PodNews,
    PodSeen,
    PodsListed,
    PodVanished,
    ProviderError,
    ProviderFull,
)
from sanfran_proto.sanfran import v1 as pb

Phase = pb.PodPhase
CREATOR = "scenario"


@dataclass(frozen=True, slots=True)
class Machine:
    """What pods run on.

    Args:
        start: seconds for a pod to start when it starts alone.
        load: seconds for code to load in a generic pod.
        cores: pods that start at once without delaying each other.
        refuses: of starts, the share that fails at once; every n-th.
        hangs: of starts, those that are never ready; every n-th. 0: none.
        room: pods at most.
    """

    start: float = 0.1
    load: float = 0.005
    cores: int = 4
    refuses: int = 0
    hangs: int = 0
    room: int = 1_000_000


class SimulatedPod(pb.SidecarBase):
    """Its sidecar, and the requests that run in it."""

    def __init__(self, name: str, provider: Provider) -> None:
        self.name = name
        self.phase = Phase.STARTING
        self.activation = pb.ActivatePodRequest()
        self.running = 0
        self.busy_until = 0.0  # of the event loop in it, where handlers hold it
        self._provider = provider
        self._processes = 1
        self._changed = asyncio.Event()

    @property
    def address(self) -> str:
        return f"{self.name}:{self._processes}"

    def become(self, phase: pb.PodPhase) -> None:
        self.phase = phase
        self.tell()

    def tell(self) -> None:
        """Whoever waits for a change looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _state(self) -> pb.PodState:
        return pb.PodState(
            pod=self.name,
            phase=self.phase,
            address=self.address,
            activation_id=self.activation.activation_id,
            function=self.activation.function,
        )

    async def activate(self, message: pb.ActivatePodRequest) -> pb.ActivatePodResponse:
        if self.phase is not Phase.GENERIC:
            raise GRPCError(Status.FAILED_PRECONDITION, self.phase.name or "")
        self.activation = message
        self.become(Phase.ACTIVATING)
        await asyncio.sleep(self._provider.machine.load)
        self.become(Phase.ACTIVE)
        return pb.ActivatePodResponse(loaded=pb.PodLoaded(address=self.address))

    async def drain(self, message: pb.DrainRequest) -> pb.DrainResponse:
        self._check(message.activation_id)
        self.become(Phase.DRAINING)
        return pb.DrainResponse(in_flight=self.running)

    async def recycle(self, message: pb.RecycleRequest) -> pb.PodState:
        self._check(message.activation_id)
        self.become(Phase.DRAINING)
        while self.running:
            await self._changed.wait()
        self.become(Phase.RECYCLING)
        await asyncio.sleep(self._provider.process_time())
        self._processes += 1
        self.activation = pb.ActivatePodRequest()
        self.become(Phase.GENERIC)
        return self._state()

    def _check(self, activation_id: str) -> None:
        if activation_id != self.activation.activation_id:
            raise GRPCError(Status.FAILED_PRECONDITION, "another activation")

    async def get_state(self, message: pb.GetStateRequest) -> pb.PodState:
        return self._state()

    async def watch_state(self, message: pb.GetStateRequest) -> AsyncIterator[pb.PodState]:
        while True:
            yield self._state()
            if self.phase is Phase.GONE:
                return
            await self._changed.wait()


class Provider:
    """A `PodProvider`."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.pods: dict[str, SimulatedPod] = {}
        self.started = 0
        self.most = 0
        self._asked = 0
        self._starting = 0
        self._news: asyncio.Queue[PodNews] = asyncio.Queue()

    def client(self, address: str, **_: object) -> Client:
        """What the fleet calls a pod's sidecar with."""
        return Client(self.pods[address])

    def process_time(self) -> float:
        """Seconds for a process to start now."""
        return self.machine.start * max(1.0, self._starting / self.machine.cores)

    async def create(self, name: str) -> None:
        """See `PodProvider.create`."""
        self._asked += 1
        machine = self.machine
        if len(self.pods) >= machine.room:
            raise ProviderFull("no room")
        if machine.refuses and self._asked % machine.refuses == 0:
            await asyncio.sleep(machine.start / 10)
            raise ProviderError("this start fails")
        self.pods[name] = pod = SimulatedPod(name, self)
        self.started += 1
        self.most = max(self.most, len(self.pods))
        self._tell(pod)
        if machine.hangs and self._asked % machine.hangs == 0:
            return
        self._starting += 1
        asyncio.get_running_loop().call_later(self.process_time(), self._ready, pod)

    def _ready(self, pod: SimulatedPod) -> None:
        self._starting -= 1
        if pod.name in self.pods:
            pod.become(Phase.GENERIC)
            self._tell(pod)

    def _tell(self, pod: SimulatedPod) -> None:
        ready = pod.phase is not Phase.STARTING
        self._news.put_nowait(PodSeen(pod.name, CREATOR, pod.name, ready))

    async def delete(self, name: str) -> None:
        """See `PodProvider.delete`."""
        pod = self.pods.pop(name, None)
        if pod is not None:
            pod.become(Phase.GONE)
            self._news.put_nowait(PodVanished(name))

    async def renew(self, address: str) -> None:
        """See `PodProvider.renew`. Nobody else is there."""

    def describe(self, name: str, function: str, version: int) -> None:
        """See `PodProvider.describe`."""

    async def adopt(self, pod: PodSeen) -> None:
        """See `PodProvider.adopt`. There is none to adopt."""

    async def watch(self) -> AsyncGenerator[PodNews]:
        """See `PodProvider.watch`."""
        yield PodsListed(())
        while True:
            yield await self._news.get()


class Client:
    """Stands in for `RpcClient`: stubs use nothing of a channel but `request`."""

    def __init__(self, service: object) -> None:
        self.channel = self
        self._service = service

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def request(self, route: str, *_: object, timeout: float | None = None, **__: object) -> _Call:
        method = re.sub(r"(?<!^)(?=[A-Z])", "_", route.rpartition("/")[2]).lower()
        return _Call(getattr(self._service, method), timeout)


class _Call:
    def __init__(self, method: Callable[[Any], Any], timeout: float | None) -> None:
        self._method = method
        self._timeout = timeout
        self._message: Any = None
        self._stream: AsyncGenerator[Any] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._stream is not None:
            await self._stream.aclose()

    async def send_message(self, message: Any, *, end: bool) -> None:
        self._message = message

    async def recv_message(self) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._method(self._message)
        except TimeoutError as error:
            raise GRPCError(Status.DEADLINE_EXCEEDED, "too late") from error

    def __aiter__(self) -> AsyncIterator[Any]:
        self._stream = self._method(self._message)
        return self._stream
