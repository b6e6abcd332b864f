"""One service as a process: started, watched until it is ready, started again when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sanfran_common.lifecycle import OwnedTasks

from sanfran_cli.errors import Refused
from sanfran_cli.up.backoff import Backoff
from sanfran_cli.up.logs import ServiceLog
from sanfran_cli.up.notify import NotifySocket

READY_SECONDS = 30.0
"""A service that is not ready by then hangs."""
LAST_OUTPUT_SECONDS = 0.5
"""After the process ended, for what is left in its pipe; a grandchild may hold that open."""
LONGEST_LINE = 64 * 1024


class StartFailed(Refused):
    """A service did not become ready at its first start."""


class Service:
    """Keeps one process alive until it is stopped.

    Args:
        name: of the service, for people and files.
        command: program and arguments.
        environ: of the process, in whole; NOTIFY_SOCKET is added.
        run: the private folder, for the readiness socket.
        log: takes what the process writes.
        inherited: file descriptors that the process gets besides the standard ones.
        changed: called when `pid`, `addresses` or `is_ready` changed.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        run: Path,
        log: ServiceLog,
        inherited: Sequence[int] = (),
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.pid: int | None = None
        self.addresses: dict[str, str] = {}
        self.is_ready = False
        self.first_ready: asyncio.Future[None] = asyncio.Future()
        """Done at the first readiness; `StartFailed` when that does not come."""
        self._command = command
        self._environ = environ
        self._notify_path = run / f"{name}.notify"
        self._log = log
        self._inherited = inherited
        self._changed = changed
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._signal_wanted: signal.Signals | None = None
        self._process: asyncio.subprocess.Process | None = None

    async def keep(self) -> None:
        """Runs the process again and again; returns after `stop`, or after a failed first start."""
        backoff = Backoff()
        clock = asyncio.get_running_loop().time
        try:
            while not self._stopping.is_set():
                born = clock()
                how = await self._run_once()
                if self._stopping.is_set():
                    return
                if not self.first_ready.done():
                    self.first_ready.set_exception(StartFailed(self._why_not(how)))
                    self.first_ready.exception()  # seen, also when another one is reported
                    return
                delay = backoff.delay_after(clock() - born)
                when = f"in {delay:g} s" if delay else "at once"
                self._log.note("warning", f"{how}; starting it again {when}")
                await self._pause(delay)
        finally:
            self._ended.set()

    async def stop(self, deadline: float) -> None:
        """Ends the process and returns when it is gone.

        Args:
            deadline: on the event loop's clock; what still runs then is killed.
        """
        self._stopping.set()
        self._send(signal.SIGTERM)
        try:
            async with asyncio.timeout_at(deadline):
                await self._ended.wait()
        except TimeoutError:
            self._log.note("warning", "did not stop in time; killed")
            self.kill()
            await self._ended.wait()

    def kill(self) -> None:
        """Ends the process the hard way, now, and for good."""
        self._stopping.set()
        self._send(signal.SIGKILL)

    async def _run_once(self) -> str:
        """One life of the process; returns how it ended, in words."""
        async with NotifySocket(self._notify_path) as notify, OwnedTasks(self.name) as tasks:
            # Never written to: it ends when this process does, however that happens.
            stdin, stdin_ours = os.pipe()
            output_ours, output = os.pipe()
            reader = asyncio.StreamReader()
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output_ours, "rb")
            )
            process = None
            try:
                try:
                    process = await self._spawn(stdin, output)
                except OSError as error:
                    return f"could not be started: {error}"
                finally:
                    os.close(stdin)
                    os.close(output)
                copied = tasks.spawn(self._copy(reader), name="output")
                tasks.spawn(self._await_ready(notify), name="readiness")
                code = await process.wait()
                await asyncio.wait([copied], timeout=LAST_OUTPUT_SECONDS)
                return _how(code)
            finally:
                if process is not None and process.returncode is None:  # cancelled
                    self._send(signal.SIGKILL)
                    await process.wait()
                self._process, self.pid, self.is_ready = None, None, False
                self._changed()
                transport.close()
                os.close(stdin_ours)

    async def _spawn(self, stdin: int, output: int) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=stdin,
            stdout=output,
            stderr=output,
            env={**self._environ, "NOTIFY_SOCKET": str(self._notify_path)},
            pass_fds=self._inherited,
            # Out of the terminal's process group: Ctrl-C is for the engine, which stops in order.
            start_new_session=True,
        )
        self._process, self.pid = process, process.pid
        if self._signal_wanted is not None:  # a stop that came while it was being started
            self._send(self._signal_wanted)
        self._changed()
        return process

    async def _await_ready(self, notify: NotifySocket) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                self.addresses = await notify.ready()
        except TimeoutError:
            self._log.note("error", f"not ready after {READY_SECONDS:g} s; killed")
            self._send(signal.SIGKILL)
            return
        self.is_ready = True
        if not self.first_ready.done():
            self.first_ready.set_result(None)
        self._changed()

    async def _copy(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await reader.read(LONGEST_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._log.take(line.decode(errors="replace"))
            if len(rest) > LONGEST_LINE:
                self._log.take(rest.decode(errors="replace"))
                rest = b""
        if rest:
            self._log.take(rest.decode(errors="replace"))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    def _send(self, which: signal.Signals) -> None:
        self._signal_wanted = which if self._stopping.is_set() else None
        if self._process is None or self._process.returncode is not None:
            return
        try:
            if which == signal.SIGKILL:
                # What it started in its own group cannot be told to go by it any more.
                os.killpg(self._process.pid, which)
            else:
                self._process.send_signal(which)
        except ProcessLookupError:
            pass

    def _why_not(self, how: str) -> str:
        shown = "\n".join(f"    {line}" for line in self._log.last) or "    (it wrote nothing)"
        return f"the {self.name} service {how} before it was ready. Its last lines:\n{shown}"


def _how(code: int) -> str:
    """An exit code, as asyncio gives it, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
