"""A pod: carries out what the table in `state` allows, one operation at a time.

Operations run in tasks of the pod, not of their callers: a caller that goes away leaves a pod that
is where the table says. A call that repeats a running or finished operation joins it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import TypeVar

from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.secret_values import without_values
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_sidecar.cache import BundleLease, DigestCache
from sanfran_sidecar.errors import (
    BundleRefused,
    NoAnswer,
    PodGone,
    SidecarError,
    StartFailed,
    WrongState,
)
from sanfran_sidecar.logs import ActivationLog, Line
from sanfran_sidecar.runtime import (
    Activated,
    Ending,
    LoadError,
    Loading,
    Runtime,
    RuntimeEnded,
    RuntimeStarter,
)
from sanfran_sidecar.state import Event, Phase, advance
from sanfran_sidecar.vigil import watch_loop, watch_memory
from sanfran_sidecar.waiting import Changes, Present, fail, to_the_end

T = TypeVar("T")
log = get_logger("pod")

SERVING = (Phase.ACTIVATING, Phase.ACTIVE, Phase.DRAINING)
DRAIN_ANSWER = 5.0
"""Seconds for the runtime to say that it drains; it answers in a millisecond unless a handler holds
its event loop, and then it takes no new request either."""

WATCH_PAUSE = 0.02
"""Seconds between a change and its telling: more than a usual activation. That it is generic, and its end, are
told at once."""


class Pod:
    """One pod. `run` is its life; everything else may be called meanwhile and after.

    Args:
        name: of the pod.
        starter: makes its processes.
        bundles: where functions' files come from.
        load_timeout: seconds for a module to load.
        log_lines: kept of an activation.
        print_logs: what functions write goes to this process's own log, too.
        on_phase: called with each new phase.
    """

    def __init__(
        self,
        name: str,
        starter: RuntimeStarter,
        bundles: DigestCache,
        *,
        load_timeout: float,
        log_lines: int,
        print_logs: bool = False,
        on_phase: Callable[[Phase], None] = lambda phase: None,
    ) -> None:
        self.name = name
        self.phase = Phase.STARTING
        self._starter = starter
        self._bundles = bundles
        self._load_timeout = load_timeout
        self._log_lines = log_lines
        self._print_logs = print_logs
        self._on_phase = on_phase
        self._tasks = OwnedTasks(f"pod {name}")
        self._changes = Changes()
        self._telling: asyncio.TimerHandle | None = None
        self.readers = Present()
        self._gone = asyncio.Event()
        self._reason = ""
        self._crashed = False
        self._cleaned = asyncio.Event()
        # of the present process
        self._runtime: Runtime | None = None
        # of the present or last activation
        self._activation_id = ""
        self._function = pb.FunctionVersion()
        self._lease: BundleLease | None = None
        self._log: ActivationLog | None = None
        self._loading = False
        self._activated: asyncio.Future[Activated] | None = None
        self._recycled: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Lives until the pod is gone; on return, or when cancelled, nothing is left of it."""
        try:
            async with self._tasks:
                self._tasks.spawn(self._guard(self._start_runtime), name="start")
                await self._gone.wait()
        finally:
            self.end("ended by the sidecar")
            await to_the_end(self._guard(self._clean))
            self._cleaned.set()

    def end(self, reason: str) -> None:
        """The pod is over, from any phase; `run` kills and wipes. Over already is fine."""
        if self.phase is not Phase.GONE:
            self._go_gone(Ending(reason, by_itself=False))

    def state(self) -> pb.PodState:
        """A snapshot for callers."""
        serving = self.phase in SERVING
        return pb.PodState(
            pod=self.name,
            phase=pb.PodPhase[self.phase.name],
            address=self._runtime.address if self._runtime is not None else "",
            activation_id=self._activation_id if serving else "",
            function=without_values(self._function) if serving else None,
            reason=self._reason,
            crashed=self._crashed,
        )

    def last_words(self) -> list[pb.LogLine]:
        """Of the present or last activation."""
        return self._log.last_words() if self._log is not None else []

    async def watch(self) -> AsyncGenerator[pb.PodState, None]:
        """The state now, then the newest soon after each change, until the pod is gone.

        That it is generic is told at once, and the end; that once more with the last words. The rest can wait: whoever
        ordered it has its answer, and an activation would pay for the telling (0.6 ms of 10).
        """
        told = None
        while True:
            seen = self._changes.count
            state = self.state()
            if state != told:
                yield state
                told = state
            if state.phase is pb.PodPhase.GONE:
                await self._cleaned.wait()
                if words := self.last_words():
                    state.last_words = words
                    yield state
                return
            await self._changes.wait(seen)

    async def logs(self, *, follow: bool, tail: int) -> AsyncGenerator[pb.LogLine, None]:
        """Lines of the present or last activation; see `ActivationLog.read`."""
        if self._log is not None:
            async with aclosing(self._log.read(follow=follow, tail=tail)) as lines:
                async for line in lines:
                    yield line

    async def activate(
        self, activation_id: str, function: pb.FunctionVersion, bundle: bytes = b""
    ) -> Activated:
        """Makes the generic pod run a function.

        A repeat with the same id gets the same answer.

        Args:
            bundle: the function's, where the caller had it; else it is fetched.

        Raises:
            WrongState: the pod is not generic.
            BundleUnavailable: the pod is generic as before.
            PodGone: the process was killed meanwhile.
        """
        if self._activated is None or activation_id != self._activation_id:
            if self.phase is not Phase.GENERIC:
                raise WrongState(f"pod {self.name} is {self.phase.value}, not generic")
            self._activation_id = activation_id
            self._function = function
            self._activated = asyncio.get_running_loop().create_future()
            self._recycled = None
            self._advance(Event.ACTIVATE)
            self._start(lambda: self._activate(bundle), self._activated, "activate")
        return await asyncio.shield(self._activated)

    async def drain(self, activation_id: str) -> int:
        """From the return on, the runtime refuses new requests; returns how many run.

        Raises:
            WrongState: the pod does not serve this activation.
            NoAnswer: the runtime's event loop is held; it drains as soon as it is not.
            PodGone: the process died meanwhile.
        """
        self._must_serve(activation_id)
        runtime = self._runtime
        if runtime is None or self.phase is Phase.ACTIVATING:
            raise WrongState(f"pod {self.name} is {self.phase.value}, not active")
        if self.phase is Phase.ACTIVE:
            self._advance(Event.DRAIN)
        try:
            return await runtime.drain(DRAIN_ANSWER)
        except RuntimeEnded as error:
            raise PodGone(f"pod {self.name} is gone: {error}") from error

    async def quiesce(self, grace: float) -> None:
        """Drains a pod that serves; returns when no request runs, or after `grace` seconds."""
        if self.phase is Phase.ACTIVE:
            self._advance(Event.DRAIN)
        if self.phase is Phase.DRAINING and self._runtime is not None:
            await self._runtime.wait_drained(grace)

    async def recycle(self, activation_id: str, grace: float) -> None:
        """Ends an activation; returns when a fresh process is ready.

        A repeat with the same id joins or has its answer.

        Args:
            grace: seconds for requests that run.

        Raises:
            WrongState: this is not the activation that the pod serves.
            PodGone: it is gone, or the fresh process did not start.
        """
        if self._recycled is None or activation_id != self._activation_id:
            self._must_serve(activation_id)
            self._recycled = asyncio.get_running_loop().create_future()
            self._start(lambda: self._recycle(activation_id, grace), self._recycled, "recycle")
        await asyncio.shield(self._recycled)

    def _must_serve(self, activation_id: str) -> None:
        if self.phase is Phase.GONE:
            raise PodGone(f"pod {self.name} is gone: {self._reason}")
        if self.phase not in SERVING or activation_id != self._activation_id:
            raise WrongState(f"pod {self.name} is {self.phase.value} and not of this activation")

    async def _start_runtime(self) -> None:
        try:
            runtime = await self._starter.start(self.name)
        except StartFailed as error:
            self.end(str(error))
            raise PodGone(f"pod {self.name} is gone: {error}") from error
        self._runtime = runtime
        runtime.ended.add_done_callback(self._on_runtime_end)
        self._advance(Event.READY)

    async def _activate(self, given: bytes) -> Activated:
        assert self._runtime is not None
        function = self._function
        self._log = self._runtime.log = ActivationLog(
            self.name,
            function.version,
            self._log_lines,
            _printer(function) if self._print_logs else None,
        )
        began = time.perf_counter()
        try:
            self._lease = await self._bundles.acquire(function.digest, function.bundle_bytes, given)
        except BundleRefused as error:
            return self._load_failed(LoadError(f"bundle refused: {error}", ""))
        except SidecarError:
            # Nothing reached the process: generic still, and the same id may try again.
            self._activated = None
            self._runtime.log = None
            self._log.close()
            self._advance(Event.BUNDLE_FAILED)
            raise
        fetched = time.perf_counter()
        self._loading = True
        settings = function.settings if function.settings is not None else pb.FunctionSettings()
        if settings.memory_mb:
            self._watch_over(watch_memory(self._runtime, settings.memory_mb << 20))
        compiled = self._lease.compiled(function.name, function.entry)
        what = Loading.of(function, self._activation_id, self._lease.folder, compiled)
        try:
            outcome = await self._runtime.load(what, self._load_timeout)
        except RuntimeEnded as error:
            # `_on_runtime_end` settles the answer, in this turn of the loop or before.
            await self._gone.wait()
            raise PodGone(str(error)) from error
        except NoAnswer:
            text = f"the module was still loading after {self._load_timeout:g} s"
            return self._load_failed(LoadError(text, ""))
        self._loading = False
        if isinstance(outcome, LoadError):
            return self._load_failed(outcome)
        self._advance(Event.LOADED)
        self._watch_over(watch_loop(self._runtime, settings.timeout_ms / 1000))
        return Activated(
            address=self._runtime.address,
            fetch_ms=(fetched - began) * 1e3,
            load_ms=outcome.ms,
        )

    def _watch_over(self, watch: Coroutine[object, object, None]) -> None:
        self._tasks.spawn(self._guard(lambda: watch), name="watch over the process")

    def _load_failed(self, error: LoadError) -> Activated:
        self._loading = False
        activated = Activated(error=error)
        assert self._activated is not None
        self._activated.set_result(activated)
        self.end(f"load failed: {error.message}")
        return activated

    async def _recycle(self, activation_id: str, grace: float) -> None:
        if self._activated is not None and not self._activated.done():
            await asyncio.wait({self._activated})
            if self.phase not in SERVING or activation_id != self._activation_id:
                return  # no bundle: nothing ran
        await self.quiesce(grace)
        if self._runtime is None or self._runtime.ended.done():
            await self._gone.wait()  # which tells the caller
            return
        runtime, self._runtime = self._runtime, None
        self._advance(Event.RECYCLE)
        await to_the_end(runtime.close())
        self._release()
        await self._start_runtime()

    def _on_runtime_end(self, ended: asyncio.Future[Ending]) -> None:
        if (
            self._runtime is not None
            and self._runtime.ended is ended
            and self.phase is not Phase.GONE
        ):
            self._crashed = True
            self._go_gone(ended.result())

    def _go_gone(self, ending: Ending) -> None:
        """Tells everyone, in this turn of the loop; `run` then cleans up."""
        if self.phase is not Phase.STARTING or ending.by_itself:
            log.info("pod gone", pod=self.name, phase=self.phase.value, reason=ending.reason)
        self._reason = ending.reason
        if self._activated is not None and not self._activated.done():
            if self._loading and ending.by_itself:
                text = f"the process {ending.reason} while the module was loading"
                self._activated.set_result(Activated(error=LoadError(text, "")))
            else:
                fail(self._activated, PodGone(f"pod {self.name} is gone: {ending.reason}"))
        if self._recycled is not None and not self._recycled.done():
            fail(self._recycled, PodGone(f"pod {self.name} is gone: {ending.reason}"))
        self._advance(Event.END)
        self._gone.set()

    async def _clean(self) -> None:
        try:
            if self._runtime is not None:
                await self._runtime.close()
        finally:
            self._release()

    def _release(self) -> None:
        """The process is dead: its files and its log may go."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        if self._log is not None:
            if self._crashed:
                self._log.append("error", f"the process is over: {self._reason}")
            self._log.close()

    def _advance(self, event: Event) -> None:
        self.phase = advance(self.phase, event)
        if self._telling is not None:
            self._telling.cancel()
        if event in (Event.END, Event.READY):
            self._changes.notify()
        else:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_later(WATCH_PAUSE, self._changes.notify)
        self._on_phase(self.phase)

    def _start(
        self,
        work: Callable[[], Coroutine[object, object, T]],
        answer: asyncio.Future[T],
        name: str,
    ) -> None:
        """Runs an operation in a task of the pod; `answer` gets what becomes of it."""

        async def settle() -> None:
            try:
                result = await work()
            except SidecarError as error:
                if not answer.done():
                    fail(answer, error)
            else:
                if not answer.done():
                    answer.set_result(result)

        self._tasks.spawn(self._guard(settle), name=name)

    async def _guard(self, work: Callable[[], Coroutine[object, object, None]]) -> None:
        """A mistake of ours costs this pod and no other."""
        try:
            await work()
        except SidecarError:
            pass  # told to whom it concerns
        except Exception as error:
            log.exception("pod failed", pod=self.name)
            self.end(f"internal error: {type(error).__name__}: {error}")


def _printer(function: pb.FunctionVersion) -> Callable[[Line], None]:
    """Prints what a function writes as lines of this process's log, each with its level."""
    printed = get_logger("function").bind(function=function.name, version=function.version)

    def print_line(line: Line) -> None:
        getattr(printed, line.level)(line.text, request_id=line.request)

    return print_line
