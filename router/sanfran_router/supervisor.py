"""The supervisor: keeps the workers, and the admin port for all of them."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Sequence

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from sanfran_common.config import join_host_port
from sanfran_common.lifecycle import CannotStart, Lifecycle, OwnedTasks, run_service
from sanfran_common.rpc.roles import Role
from sanfran_common.rpc.tls import Tls
from sanfran_common.telemetry.admin import AdminServer
from sanfran_common.telemetry.logs import get_logger

from sanfran_router.config import RouterConfig
from sanfran_router.files import shortage
from sanfran_router.fleet import Fleet
from sanfran_router.metrics import rendered
from sanfran_router.spawn import Spawned

log = get_logger("supervisor")

SCRAPE_SECONDS = 10.0

Places = Sequence[tuple[Sequence[socket.socket], Spawned]]
"""The listening sockets of each worker, and the worker that was started on them."""


def supervise(config: RouterConfig, places: Places) -> None:
    """Runs the router until it is told to stop."""
    run_service(lambda life: serve(config, places, life), config, "router")


async def serve(config: RouterConfig, places: Places, life: Lifecycle) -> None:
    """Keeps the workers until it is told to stop. Ready when each place has had one that was."""
    if warning := shortage(config.max_connections):
        log.warning(warning)
    loop = asyncio.get_running_loop()
    host, port = places[0][0][0].getsockname()[:2]
    async with (
        Tls(config.tls_dir, Role.ROUTER),  # for its metric; the workers use theirs
        Fleet(places, config.stop_delay + config.stop_grace) as fleet,
        RouterAdmin(config.admin, life, fleet) as admin,
        OwnedTasks("supervisor") as tasks,
    ):
        life.on_forced = fleet.kill
        loop.add_signal_handler(signal.SIGHUP, fleet.renew)

        async def become_ready() -> None:
            await fleet.first_ready()
            life.ready(http=join_host_port(host, port), admin=admin.address)

        becoming = tasks.spawn(become_ready(), name="become ready")
        await life.wait_stop()

        becoming.cancel()
        life.not_ready()
        await fleet.stop()


class RouterAdmin(AdminServer):
    """The admin port, which speaks for all workers."""

    def __init__(self, address: str, life: Lifecycle, fleet: Fleet) -> None:
        super().__init__(address, life)
        self._fleet = fleet
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> RouterAdmin:
        try:
            await super().__aenter__()
        except OSError as error:
            raise CannotServeAdmin(f"--admin {self.address}: {error.strerror}") from error
        return self

    def answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a path."""
        if path == "/metrics":
            asked = asyncio.run_coroutine_threadsafe(self._fleet.scrape(), self._loop)
            ours = rendered(asked.result(SCRAPE_SECONDS))
            return 200, CONTENT_TYPE_LATEST, ours + generate_latest(REGISTRY)
        if path == "/readyz":
            serving = self._fleet.serving
            return (200, "text/plain", b"ok\n") if serving else (503, "text/plain", b"not ready\n")
        if path == "/healthz" and (ailment := self._fleet.ailment):
            return 503, "text/plain", f"{ailment}\n".encode()
        return super().answer(path, accept)


class CannotServeAdmin(CannotStart):
    """The admin address cannot be had."""
