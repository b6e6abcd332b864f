"""The sidecar's end of the keeper: PID 1 of the runtime's container, which starts and clears away.

The two meet over four FIFOs in the volume that both containers mount (docs/contracts.md, "Sidecar and
keeper"): orders go to the keeper, reports come back, and the process's output comes over the other two. They
are unlinked as soon as both ends are open, so function code, which runs as the keeper's user, cannot open
them. When the keeper ends, with whatever ran, the kernel closes its ends; this sidecar's pod is gone then.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from sanfran_common.telemetry.logs import get_logger

from sanfran_sidecar.errors import StartFailed
from sanfran_sidecar.folders import SHARED, PodFolder
from sanfran_sidecar.lines import LineReader
from sanfran_sidecar.process import LAST_WORDS, Output, OutputReader

log = get_logger("keeper")

MEET = "meet"
"""The FIFOs' folder within the volume."""
RUN = "run"
"""The folder of the control sockets, as the keeper knows it."""
INPUTS = ("reports", "stdout", "stderr")
ORDERS = "orders"
"""Made last: the keeper waits for it."""
MAX_REPORT = 4096
PATIENCE = 10.0
"""Seconds for an answer. It takes milliseconds, unless the kernel holds a process that was killed."""
SIGNALLED = 128
"""What a shell adds to the number of the signal that ended a process."""


class Keeper:
    """A `Launcher` whose processes run in the other container. Use it with `async with`.

    Args:
        shared: the volume, as this container sees it.
    """

    def __init__(self, shared: Path) -> None:
        self._meet = shared / MEET
        self._loop = asyncio.get_running_loop()
        self._fds: dict[str, int] = {}
        self._hello = os.urandom(8).hex()
        self._met: asyncio.Future[None] = self._loop.create_future()
        self._lost = ""
        self._process: KeptProcess | None = None
        self._questions = itertools.count()
        self._answers: dict[str, asyncio.Future[int]] = {}
        self._lines: LineReader | None = None

    async def __aenter__(self) -> Self:
        self._meet.mkdir(exist_ok=True)
        self._meet.chmod(SHARED)
        for name in (*INPUTS, ORDERS):
            path = self._meet / name
            # One that a sidecar left which did not meet its keeper: that one may be waiting in its open().
            if not path.is_fifo():
                os.mkfifo(path)
                path.chmod(0o660)
        # For both: as its reader, too, it opens and takes orders while the keeper is not there.
        self._open(ORDERS, os.O_RDWR)
        for name in INPUTS:
            self._open(name, os.O_RDONLY)
        self._listen()
        self._order("hello", self._hello)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lose("the sidecar stops")
        for fd in self._fds.values():
            os.close(fd)

    async def prepare(self) -> None:
        """See `Launcher.prepare`: returns when the keeper has been met."""
        await asyncio.shield(self._met)
        if self._lost:
            raise StartFailed(self._lost)

    def launch(self, folder: PodFolder, output: Output) -> KeptProcess:
        """See `Launcher.launch`. The one before must have been reaped."""
        if self._lost:
            raise OSError(errno.EPIPE, self._lost)
        outputs = [
            OutputReader(os.fdopen(os.dup(self._fds[name]), "rb", buffering=0), level, output)
            for name, level in (("stdout", "info"), ("stderr", "error"))
        ]
        self._process = KeptProcess(self, folder.path.name, outputs)
        self._order("start", folder.path.name)
        return self._process

    def end(self, run: str) -> None:
        """Orders the end of everything that runs."""
        self._order("end", run)

    async def memory(self) -> int:
        """Bytes that the container has; 0 when that cannot be known."""
        question = str(next(self._questions))
        answer = self._answers[question] = self._loop.create_future()
        self._order("memory", question)
        try:
            await asyncio.wait({answer}, timeout=PATIENCE)
            return answer.result() if answer.done() else 0
        finally:
            del self._answers[question]

    def gave_no_answer(self) -> None:
        """It is of no use any more."""
        self._lose(f"the runtime's container does not answer for {PATIENCE:g} s")

    def _open(self, name: str, flags: int) -> None:
        self._fds[name] = os.open(self._meet / name, flags | os.O_NONBLOCK)

    def _listen(self) -> None:
        self._lines = LineReader(
            self._on_report,
            lambda _: self._lose("the runtime's container sent nonsense"),
            max_line=MAX_REPORT,
            pause=lambda: None,
            resume=lambda: None,
        )
        self._loop.add_reader(self._fds["reports"], self._read)

    def _order(self, order: str, about: str) -> None:
        if not self._lost:
            try:
                os.write(self._fds[ORDERS], f"{order} {about}\n".encode())
            except BlockingIOError:
                self._lose("the runtime's container takes no orders")

    def _read(self) -> None:
        try:
            data = os.read(self._fds["reports"], 65536)
        except BlockingIOError:
            return
        assert self._lines is not None
        if data:
            self._lines.feed(data)
        elif self._met.done():
            self._lose("the runtime's container ended")
        else:
            # It had met a former sidecar, and comes back. An end that was seen once would be seen for ever.
            self._loop.remove_reader(self._fds["reports"])
            os.close(self._fds["reports"])
            self._open("reports", os.O_RDONLY)
            self._listen()
            self._order("hello", self._hello)

    def _on_report(self, line: bytes) -> None:
        match line.decode(errors="replace").split():
            case ["hello", self._hello]:
                self._on_met()
            case ["exit", run, status] if self._is(run) and status.isdigit():
                assert self._process is not None
                self._process.exit_with(int(status))
            case ["ended", run] if self._is(run):
                assert self._process is not None
                self._process.ended()
            case ["memory", question, amount] if question in self._answers and amount.isdigit():
                if not self._answers[question].done():
                    self._answers[question].set_result(int(amount))
            case words:
                log.debug("report of something that is over", words=words)

    def _is(self, run: str) -> bool:
        return self._process is not None and self._process.run == run

    def _on_met(self) -> None:
        if not self._met.done():
            for name in (ORDERS, *INPUTS):
                (self._meet / name).unlink()
            log.info("the runtime's container is there")
            self._met.set_result(None)

    def _lose(self, why: str) -> None:
        if self._lost:
            return
        self._lost = why
        self._loop.remove_reader(self._fds["reports"])
        if not self._met.done():
            self._met.set_result(None)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(0)
        if self._process is not None:
            self._process.ended()


class KeptProcess:
    """A runtime's process in the other container; see `Process`.

    Args:
        keeper: who started it.
        run: the name of its private folder.
        outputs: read what it writes.
    """

    pid = None

    def __init__(self, keeper: Keeper, run: str, outputs: list[OutputReader]) -> None:
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = loop.create_future()
        self.run = run
        self._keeper = keeper
        self._outputs = outputs
        self._ended: asyncio.Future[None] = loop.create_future()
        self._killed = False

    def kill(self) -> None:
        """See `Process.kill`."""
        if not self._killed:
            self._killed = True
            self._keeper.end(self.run)

    async def reap(self) -> None:
        """See `Process.reap`. A container that does not answer is lost, and starts nothing more."""
        await asyncio.wait({self._ended}, timeout=PATIENCE)
        if not self._ended.done():
            self._keeper.gave_no_answer()
        for output in self._outputs:
            output.take_what_is_there()
            await output.finish(0 if self._ended.done() else LAST_WORDS)

    async def memory(self) -> int:
        """See `Process.memory`."""
        return await self._keeper.memory()

    def exit_with(self, status: int) -> None:
        """It ended by itself, with this status as a shell gives it."""
        if not self.exited.done():
            self.exited.set_result(SIGNALLED - status if status > SIGNALLED else status)

    def ended(self) -> None:
        """Nothing of it is left."""
        self.exit_with(SIGNALLED + signal.SIGKILL)
        if not self._ended.done():
            self._ended.set_result(None)
