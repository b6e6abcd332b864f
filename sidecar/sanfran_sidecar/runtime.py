"""One runtime process from its start to the last of its files: what a pod has at most one of."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import Histogram
from sanfran_common.config import join_host_port
from sanfran_common.secret_values import environment
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_sidecar.control import ControlSocket, Message
from sanfran_sidecar.errors import NoAnswer, StartFailed
from sanfran_sidecar.folders import PodFolder, RunFolder
from sanfran_sidecar.logs import LEVELS, ActivationLog
from sanfran_sidecar.process import Launcher, Process, describe_exit
from sanfran_sidecar.vigil import SECOND_LOOK
from sanfran_sidecar.waiting import in_thread, to_the_end

T = TypeVar("T")
log = get_logger("runtime")

START_SECONDS = Histogram(
    "sanfran_sidecar_start_seconds",
    "From the start of a process until it was warm",
    buckets=(0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10),
)

MAX_MESSAGE = 2000
MAX_STACK = 64 << 10
"""Characters of a load error that are kept. The message travels in states and in gRPC's trailers,
where what is too long, or no Unicode, would break the call."""
MAX_REQUEST_ID = 128
"""Characters, as the router has it."""
HEAP_FULL = "JavaScript heap out of memory"
"""V8's last words, before it aborts."""
EITHER_END = 0.1
"""Seconds between the two signs of a dead process, its exit and the end of its connection, until
one of them is enough. Waiting for both keeps the last messages and the true exit code."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a runtime is no more.

    Attributes:
        reason: words for people.
        by_itself: the code in it ended it (exit, crash, out of memory), not a kill from outside.
    """

    reason: str
    by_itself: bool


class RuntimeEnded(Exception):
    """The process died before it answered."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


@dataclass(frozen=True, slots=True)
class Loading:
    """What the runtime is told to load; see the `load` message in docs/contracts.md."""

    activation_id: str
    name: str
    version: int
    root: Path
    entry: str
    env: dict[str, str] = field(repr=False)
    compiled: Path | None

    @classmethod
    def of(
        cls, function: pb.FunctionVersion, activation_id: str, root: Path, compiled: Path | None
    ) -> Loading:
        """A function's version, unpacked at `root`; its compiled code is kept in `compiled`."""
        return cls(
            activation_id=activation_id,
            name=function.name,
            version=function.version,
            root=root,
            entry=function.entry,
            env=environment(function),
            compiled=compiled,
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """The module is loaded, in so many milliseconds."""

    ms: float


@dataclass(frozen=True, slots=True)
class LoadError:
    """The code could not be loaded; the process is spent."""

    message: str
    stack: str


@dataclass(frozen=True, slots=True)
class Activated:
    """How an activation went: with an address, or with why the code did not load."""

    address: str = ""
    fetch_ms: float = 0.0
    load_ms: float = 0.0
    error: LoadError | None = None


class Runtime:
    """A runtime process and the connection to it. Made by `RuntimeStarter`; end it with `close`.

    Attributes:
        address: of its HTTP server.
        ended: done when the process is dead or was given up. `close` is needed then too.
        log: where lines go; None: to the sidecar's own log.
    """

    def __init__(self, pod: str, folder: PodFolder, http_host: str) -> None:
        loop = asyncio.get_running_loop()
        self._pod = pod
        self._http_host = http_host
        self._loop = loop
        self._folder = folder
        self._process: Process | None = None
        self._control = ControlSocket(self._on_message, self._on_connection_end)
        self._connected = True
        self._drain_sent = False
        self._exit_code: int | None = None
        self._verdict: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ready: asyncio.Future[int] = loop.create_future()
        self._loaded: asyncio.Future[Loaded | LoadError] = loop.create_future()
        self._draining: asyncio.Future[int] = loop.create_future()
        self._drained: asyncio.Future[None] = loop.create_future()
        self._pong: asyncio.Future[int] | None = None
        self._heap_full = False
        self.ended: asyncio.Future[Ending] = loop.create_future()
        self.log: ActivationLog | None = None
        self.address = ""
        self._port = 0

    async def open(self, launcher: Launcher, timeout: float) -> None:
        """Starts the process and waits until it is warm. Whatever happens, `close` comes after.

        Args:
            timeout: seconds.

        Raises:
            StartFailed: says why.
        """
        try:
            self._folder.make()
            await self._control.listen(self._folder.control, self._folder.control_mode)
            self._process = launcher.launch(self._folder, self._on_output)
        except OSError as error:
            raise StartFailed(f"the process could not be started: {error}") from error
        self._control.expect(self._process.pid)
        self._process.exited.add_done_callback(self._on_exit)
        try:
            port = await self._answer(self._ready, timeout)
        except RuntimeEnded as error:
            raise StartFailed(f"the process {error} before it was ready") from error
        except NoAnswer as error:
            raise StartFailed(f"the process was not ready after {timeout:g} s") from error
        self._port = port
        self.address = join_host_port(self._http_host, port)

    async def load(self, what: Loading, timeout: float) -> Loaded | LoadError:
        """Loads a function's code; once in a process's life.

        Raises:
            RuntimeEnded: the process died.
            NoAnswer: it is still loading after `timeout` seconds.
        """
        self._control.send(
            {
                "type": "load",
                "activation_id": what.activation_id,
                "name": what.name,
                "version": what.version,
                "root": str(what.root),
                "entry": what.entry,
                "env": what.env,
                "cwd": str(what.root),
                **({"compile_cache": str(what.compiled)} if what.compiled else {}),
            }
        )
        return await self._answer(self._loaded, timeout)

    async def drain(self, timeout: float) -> int:
        """From the answer on new requests are refused. May be called again.

        Returns:
            How many requests ran.

        Raises:
            RuntimeEnded: the process died.
            NoAnswer: a handler holds the event loop.
        """
        self._send_drain()
        return await self._answer(self._draining, timeout)

    async def wait_drained(self, timeout: float) -> None:
        """Drains; returns when no request runs, the process is dead, or `timeout` seconds passed."""
        self._send_drain()
        ends: set[asyncio.Future[Any]] = {self._drained, self.ended}
        await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    async def memory(self) -> int:
        """Bytes that it has, with what it started; 0 where that cannot be known."""
        return await self._process.memory() if self._process is not None else 0

    async def ping(self, timeout: float) -> None:
        """Returns when its event loop has turned, or when it has ended.

        Raises:
            NoAnswer: a handler holds the event loop.
        """
        pong = self._pong = self._loop.create_future()
        self._control.send({"type": "ping"})
        ends: set[asyncio.Future[Any]] = {pong, self.ended}
        for patience in (timeout, SECOND_LOOK):
            await asyncio.wait(ends, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if self.ended.done():
                return
            if pong.done():
                if pong.result() != self._port:
                    self.give_up("it does not listen for requests any more")
                return
        raise NoAnswer(f"no answer from the runtime in {timeout:g} s")

    async def close(self) -> None:
        """Kills it with all it started and wipes its files. Not to be cancelled: see `to_the_end`."""
        if self._process is not None:
            self._process.kill()
            await self._process.reap()
        self._control.close()
        if self._timer is not None:
            self._timer.cancel()
        self._finish(Ending("ended by the sidecar", by_itself=False))
        await in_thread(self._folder.wipe)

    def _send_drain(self) -> None:
        if not self._drain_sent:
            self._drain_sent = True
            self._control.send({"type": "drain"})

    async def _answer(self, answer: asyncio.Future[T], timeout: float) -> T:
        ends: set[asyncio.Future[Any]] = {answer, self.ended}
        await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if self.ended.done():
            raise RuntimeEnded(self.ended.result())
        raise NoAnswer(f"no answer from the runtime in {timeout:g} s")

    def _on_message(self, message: Message) -> None:
        """Function code shares the process, so what comes is believed only in form."""
        match message:
            case {"type": "log", "time_ms": int(time_ms), "level": level, "text": str(text)} if (
                level in LEVELS and 0 <= time_ms < 1 << 53
            ):
                self._on_output(level, _unicode(text), time_ms, message.get("request_id"))
            case {"type": "pong", "port": int(port)} if self._pong is not None:
                _settle(self._pong, port)
            case {"type": "ready", "port": int(port)} if 0 < port < 65536:
                _settle(self._ready, port)
            case {"type": "loaded", "ms": int(ms) | float(ms)} if 0 <= ms < 1e9:
                _settle(self._loaded, Loaded(float(ms)))
            case {"type": "load_failed", "message": str(text), "stack": str(stack)}:
                error = LoadError(_unicode(text[:MAX_MESSAGE]), _unicode(stack[:MAX_STACK]))
                _settle(self._loaded, error)
            case {"type": "draining", "in_flight": int(in_flight)} if (
                self._drain_sent and 0 <= in_flight < 1 << 32
            ):
                _settle(self._draining, in_flight)
            case {"type": "drained"}:
                _settle(self._drained, None)
            case _:
                self.give_up(
                    f"sent a control message of no known form: {_unicode(str(message)[:200])}"
                )

    def _on_output(
        self, level: str, text: str, time_ms: int | None = None, request: object = None
    ) -> None:
        if HEAP_FULL in text and time_ms is None:
            self._heap_full = True
        if self.log is not None:
            request_id = _unicode(request[:MAX_REQUEST_ID]) if isinstance(request, str) else ""
            self.log.append(level, text, time_ms, request_id)
        else:
            log.info("output of a generic process", pod=self._pod, text=text[:500])

    def _on_connection_end(self, why: str | None) -> None:
        self._connected = False
        if why is not None:
            self.give_up(why)
        elif self._exit_code is not None:
            self._conclude()
        else:
            self._timer = self._loop.call_later(
                EITHER_END, self.give_up, "its control connection ended"
            )

    def _on_exit(self, exited: asyncio.Future[int]) -> None:
        self._exit_code = exited.result()
        if self._connected and self._verdict is None:
            self._timer = self._loop.call_later(EITHER_END, self._conclude)
        else:
            self._conclude()

    def give_up(self, why: str) -> None:
        """Kills it for what it does.

        Args:
            why: words for people.
        """
        if self._exit_code is None and self._verdict is None:
            self._verdict = why
            assert self._process is not None
            self._process.kill()
        self._conclude()

    def _conclude(self) -> None:
        if self._verdict is not None:
            self._finish(Ending(self._verdict, by_itself=True))
        elif self._heap_full and self._exit_code == -signal.SIGABRT:
            self._finish(Ending("out_of_memory: the heap of its V8 is full", by_itself=True))
        elif self._exit_code is not None:
            killed = self._exit_code == -signal.SIGKILL
            self._finish(Ending(describe_exit(self._exit_code), by_itself=not killed))

    def _finish(self, ending: Ending) -> None:
        if not self.ended.done():
            self.ended.set_result(ending)


class RuntimeStarter:
    """Starts runtimes, a few at a time and in the order of asking: each start is all CPU.

    Args:
        launcher: what starts the process.
        run: holds the private folders.
        http_host: where the runtimes listen, for their addresses.
        timeout: seconds for one start, the waiting for its turn not counted.
        at_once: starts that may run at the same time.
    """

    def __init__(
        self, launcher: Launcher, run: RunFolder, *, http_host: str, timeout: float, at_once: int
    ) -> None:
        self._launcher = launcher
        self._run = run
        self._http_host = http_host
        self._timeout = timeout
        self._turns = asyncio.Semaphore(at_once)  # first come, first served

    async def start(self, pod: str) -> Runtime:
        """A warm runtime, which the caller closes.

        Raises:
            StartFailed: nothing is left of it.
        """
        async with self._turns:
            await self._launcher.prepare()
            began = time.monotonic()
            runtime = Runtime(pod, self._run.new_pod_folder(), self._http_host)
            try:
                await runtime.open(self._launcher, self._timeout)
            except BaseException:
                await to_the_end(runtime.close())
                raise
            START_SECONDS.observe(time.monotonic() - began)
            return runtime


def _settle(answer: asyncio.Future[T], value: T) -> None:
    """The first answer counts."""
    if not answer.done():
        answer.set_result(value)


def _unicode(text: str) -> str:
    """JSON may hold halves of surrogate pairs, which have no UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
