"""The audit log: who changed what, when, from where, and how it ended; one JSON object a line.

Names of what was changed stand in it, never values. A file is appended to, and opened anew when its name
means another one (logrotate moves it away). When a line cannot be written, for want of room above all,
it is kept, told to the service's log, and written first once there is room; until then further changes are
refused, so that nobody acts unseen by filling the disk.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time
from typing import Any

from grpclib import Status
from sanfran_common.telemetry.logs import get_logger

from sanfran_api.access.errors import TooManyFailures
from sanfran_api.access.failures import Buckets, Limit, network_of
from sanfran_api.errors import ApiError
from sanfran_api.names import shorten
from sanfran_api.threads import in_thread

log = get_logger("audit")

MAX_KEPT = 10_000
"""Lines without room; changes that ran when the room ended, and refusals after it."""
STRANGERS = Limit(10, 10.0)
"""Attempts without the right credentials that are written down, for each address: anybody can make them."""


MAX_NAMES = 100
"""Of what one operation changes."""


REFUSED = frozenset({401, 403})
"""Statuses of HTTP that stand in the log as `refused`."""


class AuditFull(ApiError):
    """The audit log cannot be written, so nothing may be changed."""

    code = "audit_full"
    http_status = 507
    grpc_status = Status.RESOURCE_EXHAUSTED


class Entry:
    """One operation, until it has ended.

    Args:
        operation: as in `operations`.
        via: `rest`, `rpc`, or `service` for one of our own.
        address: where it came from.
        changes: it is written down also when it is not refused.
    """

    def __init__(
        self, operation: str, *, via: str, address: str, changes: bool, request_id: str = ""
    ) -> None:
        self.operation = operation
        self.via = via
        self.address = address
        self.changes = changes
        self.request_id = request_id
        self.user = ""
        self.admitted = False
        """Who it is is known, or nobody is asked: else anybody can make such lines, and they have a limit."""
        self.function = ""
        self.changed: list[str] = []
        """Names of what was given, such as `settings.timeout`."""
        self.written = False
        """Whatever there was to be said of it is said."""


def names_of(settings: Mapping[str, object], *, code: bool) -> list[str]:
    """What a change is about, without any value: `code`, `settings.timeout`, `settings.env.KEY`."""
    names = ["code"] if code else []
    for key, value in settings.items():
        inner = [f".{one}" for one in value] if isinstance(value, Mapping) else [""]
        names += [f"settings.{shorten(str(key) + one)}" for one in inner or [""]]
    return names[:MAX_NAMES]


class Audit:
    """Writes the log.

    Args:
        path: None: to the service's log.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time) -> None:
        self._path = path
        self._clock = clock
        self._kept: list[bytes] = []
        self._strangers = Buckets(STRANGERS)
        self._writing = asyncio.Lock()
        self._file = -1
        self._inode: tuple[int, int] | None = None
        if path is not None:
            self._open(path)

    async def __aenter__(self) -> Audit:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._kept:
            async with self._writing:
                await self._flush()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    async def check(self) -> None:
        """To be called before a change.

        Raises:
            AuditFull: what was written before has not found room yet.
        """
        if self._kept:
            async with self._writing:
                await self._flush()
            if self._kept:
                raise AuditFull("the audit log cannot be written; nothing may be changed meanwhile")

    async def write(self, entry: Entry, result: str, code: str = "") -> None:
        """Writes down how an operation ended; nothing when that is of no interest.

        Args:
            result: `done`, `refused` (they may not), `failed` (it could not be done), `broken off`.
            code: of the error.
        """
        if entry.written:
            return
        entry.written = True
        if not (entry.changes or result == "refused"):
            return
        if not entry.admitted:
            if code == TooManyFailures.code:
                return
            key, now = network_of(entry.address), monotonic()
            if self._strangers.wait(key, now):
                return
            self._strangers.take(key, now)
        told = self._told(entry, result, code)
        if self._path is None:
            log.info("audit", **told)
            return
        line = json.dumps(told, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
        if len(self._kept) < MAX_KEPT:
            self._kept.append(line)  # at once: whoever waits for the lock may be cancelled
        async with self._writing:
            await self._flush()
            if any(one is line for one in self._kept):
                log.error("audit log not written", line=line.decode().strip())

    def _told(self, entry: Entry, result: str, code: str) -> dict[str, Any]:
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        told: dict[str, Any] = {
            "time": at.replace("+00:00", "Z"),
            "user": entry.user,
            "from": entry.address,
            "via": entry.via,
            "operation": entry.operation,
            "function": entry.function,
            "changed": entry.changed,
            "result": result,
            "code": code,
            "request_id": entry.request_id,
        }
        return {key: value for key, value in told.items() if value or key in ("user", "from")}

    async def _flush(self) -> None:
        try:
            # Cancelled, it waits: two threads at once would write one line twice, and drop another.
            await in_thread(lambda _: self._append())
        except OSError as error:
            log.error("audit log not written", path=str(self._path), error=str(error))

    def _append(self) -> None:
        assert self._path is not None
        self._reopen(self._path)
        while self._kept:
            line = self._kept[0]
            size = os.fstat(self._file).st_size
            if os.write(self._file, line) < len(line):
                os.ftruncate(self._file, size)  # half a line would spoil the next one
                raise OSError("no room for a whole line")
            self._kept.pop(0)

    def _reopen(self, path: Path) -> None:
        try:
            status = os.stat(path)
            inode = (status.st_dev, status.st_ino)
        except FileNotFoundError:
            inode = None
        if inode is None or inode != self._inode:
            self._open(path)

    def _open(self, path: Path) -> None:
        fresh = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if self._file >= 0:
            os.close(self._file)
        self._file = fresh
        status = os.fstat(fresh)
        self._inode = (status.st_dev, status.st_ino)
