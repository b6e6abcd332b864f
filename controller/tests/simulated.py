"""Simulated pods, a pod host and an api service behind real gRPC on Unix sockets. What a pod would do
with Node, it does at once, or as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from grpclib import GRPCError, Status
from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.rpc.server import RpcServer
from sanfran_common.rpc.term import TermFence
from sanfran_common.secret_values import without_values
from sanfran_proto.sanfran import v1 as pb

PATIENCE = 8.0
Phase = pb.PodPhase


class Changes:
    """Wakes everybody who waits for something to change."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def until(self, true: Callable[[], Any]) -> Any:
        async with asyncio.timeout(PATIENCE):
            while not (value := true()):
                await self._event.wait()
            return value

    async def next(self) -> None:
        await self._event.wait()


class SimPod(pb.SidecarBase):
    """A pod without Node. `host` holds the knobs."""

    def __init__(self, name: str, controller: str, host: SimHost) -> None:
        self.name, self.controller, self.host = name, controller, host
        self.term = 1
        self.address_number = 0
        self.phase = Phase.GENERIC
        self.activation_id = ""
        self.function: pb.FunctionVersion | None = None
        self.reason = ""
        self.running = 0
        self.changes = Changes()
        self.fresh_process()
        self.server: RpcServer | None = None
        self.loading: asyncio.Future[pb.ActivatePodResponse] | None = None

    def fresh_process(self) -> None:
        self.address_number += 1
        self.address = f"{self.name}:{self.address_number}"

    def become(self, phase: pb.PodPhase, reason: str = "") -> None:
        self.phase, self.reason = phase, reason
        self.changes.tell()
        self.host.changes.tell()

    def forget_load(self) -> None:
        """It is dead."""
        if self.loading is not None:
            self.loading.cancel()

    def crash(self) -> None:
        self.become(Phase.GONE, "exit code 1")

    def state(self) -> pb.PodState:
        busy = self.phase in (Phase.ACTIVATING, Phase.ACTIVE, Phase.DRAINING)
        return pb.PodState(
            pod=self.name,
            phase=self.phase,
            address=self.address,
            activation_id=self.activation_id if busy else "",
            function=without_values(self.function) if busy and self.function else None,
            reason=self.reason,
        )

    async def activate(self, message: pb.ActivatePodRequest) -> pb.ActivatePodResponse:
        if self.phase is Phase.GENERIC:
            assert message.function is not None
            if self.host.no_bundle(message.function):
                raise GRPCError(Status.UNAVAILABLE, "no bundle")
            self.activation_id, self.function = message.activation_id, message.function
            self.host.bundles.append(message.bundle)
            loaded = (self.name, message.function.name, message.function.version)
            self.host.activations.append(loaded)
            self.become(Phase.ACTIVATING)
            # Not its caller's: who leaves does not end it, and who asks again joins it.
            self.loading = asyncio.ensure_future(self._load(message.function))
        elif message.activation_id != self.activation_id or self.loading is None:
            raise GRPCError(Status.FAILED_PRECONDITION, f"{self.phase.name}")
        return await asyncio.shield(self.loading)

    async def _load(self, function: pb.FunctionVersion) -> pb.ActivatePodResponse:
        await self.host.on_load(self)
        if self.phase is Phase.GONE:
            raise GRPCError(Status.ABORTED, "died")
        if broken := self.host.broken(function):
            self.become(Phase.GONE, "load failed")
            return pb.ActivatePodResponse(failed=pb.LoadFailed(message=broken, stack="at line 1"))
        self.become(Phase.ACTIVE)
        loaded = pb.PodLoaded(address=self.address, fetch_ms=1, load_ms=1)
        return pb.ActivatePodResponse(loaded=loaded)

    async def drain(self, message: pb.DrainRequest) -> pb.DrainResponse:
        if message.activation_id != self.activation_id:
            raise GRPCError(Status.FAILED_PRECONDITION, "other activation")
        await self.host.on_drain(self)
        if self.phase is Phase.ACTIVE:
            self.become(Phase.DRAINING)
        return pb.DrainResponse(in_flight=self.running)

    async def recycle(self, message: pb.RecycleRequest) -> pb.PodState:
        if message.activation_id != self.activation_id:
            raise GRPCError(Status.FAILED_PRECONDITION, "other activation")
        self.become(Phase.DRAINING)
        while self.running:
            await self.host.changes.next()
        self.become(Phase.RECYCLING)
        await asyncio.sleep(self.host.start_delay)
        self.fresh_process()
        self.become(Phase.GENERIC)
        return self.state()

    async def get_state(self, message: pb.GetStateRequest) -> pb.PodState:
        while self.host.silent:
            await self.host.changes.next()
        return self.state()

    async def watch_state(self, message: pb.GetStateRequest) -> AsyncIterator[pb.PodState]:
        last = None
        while last is not Phase.GONE:
            if self.phase is not last:
                last = self.phase
                yield self.state()
            else:
                await self.changes.next()

    async def stream_logs(self, message: pb.PodLogsRequest) -> AsyncIterator[pb.LogLine]:
        count = int(self.name.rpartition("-")[2], 16)
        yield pb.LogLine(time_ms=count, text=f"from {self.name}", pod=self.name)
        while message.follow:
            await self.host.changes.next()


async def _at_once(pod: SimPod) -> None:
    return None


class SimHost(pb.PodHostBase):
    """A pod host. Its knobs are attributes that a test may set at any time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changes = Changes()  # of anything
        self.membership = Changes()  # of pods, whose they are, and of controllers
        self.ttl = 5.0  # seconds, whatever controllers ask for
        self.live: dict[str, pb.LiveController] = {}
        self._processes: dict[str, str] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self.start_delay = 0.01
        self.start_error = Status.RESOURCE_EXHAUSTED
        self.fail_start: Callable[[int], bool] = lambda number: False
        self.on_load: Callable[[SimPod], Awaitable[None]] = _at_once
        self.on_drain: Callable[[SimPod], Awaitable[None]] = _at_once
        self.broken: Callable[[pb.FunctionVersion], str] = lambda function: ""
        self.no_bundle: Callable[[pb.FunctionVersion], bool] = lambda function: False
        self.silent = False  # sidecars do not say what they do
        self.pods: dict[str, SimPod] = {}
        self.asked = 0
        self.most = 0
        self.activations: list[tuple[str, str, int]] = []
        self.bundles: list[bytes] = []  # that came with each activation
        self._tasks = OwnedTasks("host")
        self._server: RpcServer | None = None

    @property
    def address(self) -> str:
        return f"unix:{self.folder}/host"

    async def start(self) -> None:
        self._tasks = OwnedTasks("host")
        await self._tasks.__aenter__()
        self._server = await RpcServer([self], self.address).__aenter__()

    async def stop(self) -> None:
        """Everything that ran on it is gone, as after kill -9."""
        if self._server is None:
            return
        await self._server.__aexit__(None, None, None)
        self._server = None
        for expiry in self._expiries.values():
            expiry.cancel()
        self.live.clear()
        await self._tasks.__aexit__(None, None, None)
        for pod in list(self.pods.values()):
            await self._kill(pod)
        self.pods.clear()
        self.changes.tell()

    def in_phase(self, *phases: pb.PodPhase) -> list[SimPod]:
        return [pod for pod in self.pods.values() if pod.server and pod.phase in phases]

    def serving(self, name: str) -> list[SimPod]:
        active = self.in_phase(Phase.ACTIVE)
        return [pod for pod in active if pod.function and pod.function.name == name]

    async def until(self, true: Callable[[], Any]) -> Any:
        return await self.changes.until(true)

    async def create_pod(self, message: pb.CreatePodRequest) -> pb.Pod:
        self.asked += 1
        if self.fail_start(self.asked):
            raise GRPCError(self.start_error, "no more")
        pod = self.pods[message.name] = SimPod(message.name, message.controller, self)
        self.most = max(self.most, len(self.pods))
        self._tasks.spawn(self._start(pod), name=pod.name)
        self._members_changed()
        return self.pod(pod)

    async def _start(self, pod: SimPod) -> None:
        await asyncio.sleep(self.start_delay)
        address = f"unix:{self.folder}/{pod.name}"
        pod.server = await RpcServer([pod], address, fence=TermFence()).__aenter__()
        self._members_changed()

    def _members_changed(self) -> None:
        self.membership.tell()
        self.changes.tell()

    async def _kill(self, pod: SimPod) -> None:
        server, pod.server = pod.server, None
        if server is not None:
            await server.__aexit__(None, None, None)
        pod.forget_load()

    async def delete_pod(self, message: pb.DeletePodRequest) -> pb.DeletePodResponse:
        pod = self.pods.pop(message.name, None)
        if pod is not None:
            await self._kill(pod)
        self._members_changed()
        return pb.DeletePodResponse()

    def pod(self, pod: SimPod) -> pb.Pod:
        return pb.Pod(
            name=pod.name,
            controller=pod.controller,
            sidecar_address=f"unix:{self.folder}/{pod.name}" if pod.server is not None else "",
            ready=pod.server is not None,
            term=pod.term,
        )

    async def renew_lease(self, message: pb.RenewLeaseRequest) -> pb.RenewLeaseResponse:
        name, process = message.controller, message.process
        if name in self.live and process != self._processes[name] and self.live[name].watches:
            raise GRPCError(Status.ALREADY_EXISTS, f"{name} lives")
        if process != self._processes.setdefault(name, process):
            self._processes[name] = process
            for pod in self.pods.values():
                pod.term += pod.controller == name
        watches = name in self.live and self.live[name].watches
        self.live[name] = pb.LiveController(name=name, address=message.address, watches=watches)
        if name in self._expiries:
            self._expiries[name].cancel()
        expiry = asyncio.get_running_loop().call_later(self.ttl, self._expire, name)
        self._expiries[name] = expiry
        self._members_changed()
        return pb.RenewLeaseResponse()

    def _expire(self, name: str) -> None:
        self.live.pop(name, None)
        self._members_changed()

    async def adopt_pod(self, message: pb.AdoptPodRequest) -> pb.Pod:
        pod = self.pods.get(message.name)
        if pod is None or pod.term != message.term or pod.controller in self.live:
            raise GRPCError(Status.FAILED_PRECONDITION, "not to be had")
        pod.controller, pod.term = message.controller, pod.term + 1
        self._members_changed()
        return self.pod(pod)

    async def watch_pods(self, message: pb.WatchPodsRequest) -> AsyncIterator[pb.PodEvent]:
        self._watches(message.controller, True)
        try:
            async for event in self._events():
                yield event
        finally:
            self._watches(message.controller, False)

    def _watches(self, name: str, watches: bool) -> None:
        if name in self.live:
            address = self.live[name].address
            self.live[name] = pb.LiveController(name=name, address=address, watches=watches)
            self._members_changed()

    async def _events(self) -> AsyncIterator[pb.PodEvent]:
        told: dict[str, tuple[bool, int]] = {}
        live: list[pb.LiveController] = []
        synced = False
        while True:
            if live != list(self.live.values()):
                live = list(self.live.values())
                yield pb.PodEvent(controllers=pb.LiveControllers(controllers=live))
            for name, pod in list(self.pods.items()):
                if told.get(name) != (pod.server is not None, pod.term):
                    told[name] = (pod.server is not None, pod.term)
                    yield pb.PodEvent(put=self.pod(pod))
            for name in [name for name in told if name not in self.pods]:
                del told[name]
                yield pb.PodEvent(gone=name)
            if not synced:
                synced = True
                yield pb.PodEvent(synced=pb.PodsSynced())
            await self.membership.next()


class SimApi(pb.ApiBase):
    """An api service in memory."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:{folder}/api"
        self.changes = Changes()
        self.functions: dict[str, pb.FunctionVersion] = {}
        self.history: list[pb.FunctionEvent] = []
        self.applied: set[int] = set()
        self.watchers = 0
        self.live: list[str] = []  # controllers, as one told
        self.synced_applied = 0
        self.gets = 0
        self.bundles: dict[str, bytes] = {}
        self.fetches = 0
        self._clock = 0
        self._server: RpcServer | None = None

    async def start(self) -> None:
        self._server = await RpcServer([self], self.address).__aenter__()

    async def stop(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            await server.__aexit__(None, None, None)

    def put(
        self, name: str, *, created_again: bool = False, bundle: bytes = b"", **settings: Any
    ) -> int:
        """A new version; returns its revision."""
        former = None if created_again else self.functions.get(name)
        self._clock += 1
        self.functions[name] = pb.FunctionVersion(
            name=name,
            version=former.version + 1 if former else 1,
            digest=f"{self._clock:064x}",
            bundle_bytes=len(bundle),
            settings=pb.FunctionSettings(
                **{"timeout_ms": 5000, "concurrency": 1, "max_scale": 20, **settings}
            ),
            created_at_ms=self._clock,
        )
        self.bundles[self.functions[name].digest] = bundle
        return self._tell(pb.FunctionEvent(put=self.functions[name]))

    def delete(self, name: str) -> int:
        del self.functions[name]
        return self._tell(pb.FunctionEvent(deleted=name))

    def _tell(self, event: pb.FunctionEvent) -> int:
        event.revision = len(self.history) + 1
        self.history.append(event)
        self.changes.tell()
        return event.revision

    async def until_applied(self, revision: int) -> None:
        await self.changes.until(lambda: revision in self.applied)

    async def fetch_bundle(self, message: pb.FetchBundleRequest) -> AsyncIterator[pb.BundleChunk]:
        self.fetches += 1
        bundle = self.bundles[message.digest]
        yield pb.BundleChunk(data=bundle[:3])
        yield pb.BundleChunk(data=bundle[3:])
        self.changes.tell()

    async def resolve_function(self, message: pb.GetFunctionRequest) -> pb.FunctionVersion:
        self.gets += 1
        if message.name not in self.functions:
            raise GRPCError(Status.NOT_FOUND, message.name)
        return self.functions[message.name]

    async def watch_functions(
        self, messages: AsyncIterator[pb.WatchFunctionsRequest]
    ) -> AsyncIterator[pb.FunctionEvent]:
        first = await anext(messages)
        assert first.start is not None
        sent = first.start.from_revision

        async def listen() -> None:
            async for message in messages:
                if message.live is not None:
                    self.live = message.live.controllers
                    self.changes.tell()
                    continue
                assert message.applied is not None
                self.applied.add(message.applied.revision)
                self.changes.tell()

        async with OwnedTasks("watcher") as tasks:
            tasks.spawn(listen(), name="listen")
            if not sent or sent > len(self.history):
                for function in list(self.functions.values()):
                    yield pb.FunctionEvent(put=function)
                sent = len(self.history)
                complete = pb.WatchSynced(complete=True)
                yield pb.FunctionEvent(revision=sent, synced=complete)
            else:
                yield pb.FunctionEvent(revision=sent, synced=pb.WatchSynced())
            while True:
                for event in self.history[sent:]:
                    sent = event.revision
                    yield event
                await self.changes.next()
