"""A service's life: signals, readiness, owned tasks, and the end in order.

`run_service` is called by every service's `main`. The service's coroutine builds its parts with
`async with`, calls `Lifecycle.ready`, waits for the stop, and undoes things in its own order. A second
signal exits at once.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from sanfran_common.config import ServiceConfig
from sanfran_common.telemetry.logs import configure_logs, get_logger

T = TypeVar("T")
log = get_logger("lifecycle")

PR_SET_DUMPABLE = 4
EXIT_FORCED = 130
"""Exit code after a second signal, as a shell gives for a process that Ctrl-C ended."""


class CannotStart(Exception):
    """What a service needs of its machine is not as it has to be: a file, a folder, an address.

    The text says which, and what would work. Where in the code that was met is of no use to who reads it.
    """


class LoopEnded(RuntimeError):
    """A task that must run as long as its owner came to an end."""


class Lifecycle:
    """Where a service stands: starting, ready, stopping. Made by `run_service`."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.is_ready = False
        self.was_ready = False
        self.on_forced: Callable[[], object] = lambda: None
        """Called right before a second signal ends the process."""

    async def wait_stop(self) -> None:
        """Returns at the first signal, or at the end of the standard input where that counts."""
        await self.stopping.wait()

    def ready(self, **addresses: str) -> None:
        """Readiness on; tells the parent by sd_notify(3), with the service's addresses.

        Args:
            addresses: what it listens on, such as http="127.0.0.1:8080"; sent as X_SANFRAN_HTTP.
        """
        self.is_ready = self.was_ready = True
        # What was made to start lives as long as the process: collecting garbage need not look at it.
        gc.collect()
        gc.freeze()
        log.info("ready", **addresses)
        lines = ["READY=1", *(f"X_SANFRAN_{key.upper()}={at}" for key, at in addresses.items())]
        _notify("\n".join(lines))

    def not_ready(self) -> None:
        """The first step of a stop: no new work should come here."""
        if self.is_ready:
            self.is_ready = False
            _notify("STOPPING=1")

    def request_stop(self, why: str) -> None:
        """What the first signal does."""
        if not self.stopping.is_set():
            log.info("stopping", why=why)
            self.stopping.set()


def _notify(message: str) -> None:
    """Sends to the parent's socket, as sd_notify(3) describes; nothing without NOTIFY_SOCKET."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    if path.startswith("@"):
        path = "\0" + path[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(message.encode(), path)
        except OSError as error:
            log.warning("parent not told", error=str(error))


class OwnedTasks:
    """A task group with names. Leaving it cancels what still runs, and waits for it.

    A failure of one task cancels the others and the body, and leaves the `async with` as that
    one exception where it was alone.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._group = asyncio.TaskGroup()
        self._running: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._running:
            task.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise

    def spawn(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Starts work that may end. Its exception is the owner's failure."""
        task = self._group.create_task(work, name=f"{self._owner}: {name}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def loop(self, work: Coroutine[Any, Any, object], *, name: str) -> asyncio.Task[None]:
        """Starts work that lives as long as the owner: its end is a failure (`LoopEnded`)."""

        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                # One that nobody asked for, out of something that it awaited, would end it unseen.
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
            raise LoopEnded(f"{self._owner}: {name} ended while it was needed")

        task = self.spawn(guarded(), name=name)
        # Cancelled before its first step, it never awaits its work, which would warn of that.
        task.add_done_callback(lambda _: work.close())
        return task


class TaskOwner:
    """What runs tasks of its own while its `async with` lasts: see `OwnedTasks`.

    Args:
        owner: its name, in the names of its tasks.
    """

    def __init__(self, owner: str) -> None:
        self._tasks = OwnedTasks(owner)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._tasks.__aexit__(kind, error, trace)


def run_service(
    main: Callable[[Lifecycle], Awaitable[None]], config: ServiceConfig, name: str
) -> None:
    """Runs a service until it is told to stop.

    Args:
        main: the service; returns after its ordered stop.
        name: of the service, in logs.

    Raises:
        SystemExit: with code 1 when `main` raised (the error is logged, with its traceback unless it is
            `CannotStart`, or of the system before the service was ready), 130 after a second signal.
    """
    configure_logs(config.log_format, config.log_level, service=name)
    hide_memory()
    life = Lifecycle()

    async def supervise() -> None:
        loop = asyncio.get_running_loop()
        signals = 0

        def on_signal(which: signal.Signals) -> None:
            # Counted apart from `stopping`: a parent may close stdin and send a signal at once.
            nonlocal signals
            signals += 1
            if signals > 1:
                life.on_forced()
                os._exit(EXIT_FORCED)
            life.request_stop(which.name)

        for which in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(which, on_signal, which)
        if config.exit_with_stdin:
            try:
                loop.add_reader(0, _on_stdin, loop, life)
            except OSError as error:
                raise RuntimeError("--exit-with-stdin needs a pipe as standard input") from error
        try:
            await main(life)
        finally:
            life.not_ready()
            if config.exit_with_stdin:
                loop.remove_reader(0)

    try:
        uvloop.run(supervise())
    except Exception as error:  # the outermost frame: says why and exits 1
        if isinstance(error, CannotStart):
            log.error("cannot start", error=str(error))
        elif isinstance(error, OSError) and not life.was_ready:
            log.error("cannot start", error=describe(error))
        else:
            log.error("failed", error=describe(error), exc_info=error)
        sys.exit(1)


def _on_stdin(loop: asyncio.AbstractEventLoop, life: Lifecycle) -> None:
    if not os.read(0, 65536):
        loop.remove_reader(0)
        life.request_stop("standard input ended")


def hide_memory() -> None:
    """Keeps environment and memory of this process from others of the same user (Linux).

    On one machine function code runs as the engine's own user, and would find the per-run secret in
    `/proc/<pid>/environ`. See prctl(2), PR_SET_DUMPABLE; root can still look.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def describe(error: BaseException) -> str:
    """One line that names an error, also one without a text."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
