"""Mutual TLS between the services: a folder of files, looked at again and again.

The folder has the layout of a Secret of type kubernetes.io/tls: `ca.crt` (one CA, or several while they
change), `tls.crt` (with intermediates, where there are any) and `tls.key`. A new set holds for connections that
begin later, once it has proved to work; one that does not is told of, and the one before stays in use. Unix
sockets need none of it: they do not leave the machine.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from prometheus_client import Gauge

from sanfran_common.lifecycle import TaskOwner
from sanfran_common.rpc.certificates import BadCertificates, Certificates, load
from sanfran_common.rpc.roles import Role
from sanfran_common.telemetry.logs import get_logger

log = get_logger("tls")

LOOK_EVERY = 5.0
"""Seconds; kubelet takes about a minute to bring a changed Secret to a pod."""
WARN_AGAIN = 6 * 3600.0
WARN_BEFORE = 7 * 86400.0
"""Seconds before the end of a certificate that lives for long; a short one is told of in its last fifth."""

EXPIRES = Gauge(
    "sanfran_tls_expires_timestamp_seconds",
    "Unix time at which the certificate of this service, or the CA behind it, ends",
    ["role"],
)


class Tls(TaskOwner):
    """What a service shows of itself to others, and how it knows them. Open it with `async with`.

    Args:
        folder: see above; empty: no TLS.
        role: of this service.

    Raises:
        BadCertificates: the files do not work.
    """

    def __init__(self, folder: str, role: Role) -> None:
        super().__init__("tls")
        self.role = role
        self._folder = Path(folder) if folder else None
        self._now = self._first(self._folder) if self._folder else None
        self._refused = ""
        self._warned = -WARN_AGAIN

    @property
    def on(self) -> bool:
        """Whether there is a folder at all."""
        return self._now is not None

    @property
    def now(self) -> Certificates:
        """The set for connections that begin now."""
        assert self._now is not None, "asked for where TLS is off"
        return self._now

    def to(self, role: Role) -> ClientTls | None:
        """For clients of a service of that role; None: without TLS."""
        return ClientTls(self, role) if self.on else None

    def _first(self, folder: Path) -> Certificates | None:
        try:
            return load(folder, self.role)
        except BadCertificates as error:
            raise BadCertificates(f"--tls-dir {folder}: {error}") from error

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._folder is not None:
            self._tell_end()
            self._tasks.loop(self._follow(self._folder), name="follow the files")
        return self

    async def _follow(self, folder: Path) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.look(folder)

    def look(self, folder: Path) -> None:
        """Takes over a new set of files, if there is one and it works."""
        try:
            found = load(folder, self.role, unless=self.now.digest)
        except BadCertificates as error:
            if str(error) != self._refused:
                self._refused = str(error)
                log.error("new certificates refused, the former stay", error=str(error))
        else:
            self._refused = ""
            if found is not None:
                self._now = found
                self._warned = -WARN_AGAIN
                log.info("new certificates", ends=_date(found.ends))
        self._tell_end()

    def _tell_end(self) -> None:
        ends, lives = self.now.ends, self.now.ends - self.now.begins
        EXPIRES.labels(self.role).set(ends)
        left = ends - time.time()
        if left < min(WARN_BEFORE, lives / 5) and time.monotonic() - self._warned > WARN_AGAIN:
            self._warned = time.monotonic()
            say = log.error if left < 0 else log.warning
            say("certificate ends", ends=_date(ends), hours_left=round(left / 3600, 1))


@dataclass(frozen=True, slots=True)
class ClientTls:
    """For a client: its own certificates, and the role that the server must have."""

    tls: Tls
    server: Role

    @property
    def context(self) -> ssl.SSLContext:
        """For a connection that begins now."""
        return self.tls.now.client


def _date(unix: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix))
