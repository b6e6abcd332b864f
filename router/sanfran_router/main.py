"""`sanfran-router`: HTTP in, HTTP out."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import REGISTRY
from sanfran_common.config import parse_config
from sanfran_common.lifecycle import Lifecycle, OwnedTasks, run_service
from sanfran_common.rpc.client import RpcClient
from sanfran_common.telemetry.admin import AdminServer
from sanfran_common.telemetry.logs import get_logger

from sanfran_router.access_log import write_access_line
from sanfran_router.activation import Activator
from sanfran_router.config import RouterConfig
from sanfran_router.control import ControllerLink
from sanfran_router.metrics import RouterCollector
from sanfran_router.plane import DataPlane
from sanfran_router.server import allow_many_files, listening
from sanfran_router.table import Table
from sanfran_router.wheel import TimerWheel

log = get_logger("router")


def main() -> None:
    """The command."""
    config = parse_config(
        RouterConfig,
        prefix="SANFRAN_ROUTER",
        prog="sanfran-router",
        description="Routes HTTP requests for /fn/<name> to the pods that serve the function.",
    )
    run_service(lambda life: serve(config, life), config, "router")


async def serve(config: RouterConfig, life: Lifecycle) -> None:
    """The service, until it is told to stop.

    It listens at once, and is ready when one controller has told its routes. Until then it answers
    what it can: 503 for functions.
    """
    allow_many_files()
    async with (
        AdminServer(config.admin, life) as admin,
        RpcClient(config.controllers, secret=config.rpc_secret) as controllers,
        OwnedTasks("router") as tasks,
    ):
        link = ControllerLink(controllers, Table(), f"{socket.gethostname()}-{os.getpid()}")
        plane = build_plane(config, link, tasks)
        async with listening(plane) as listener:
            with collected(RouterCollector(plane)):
                tasks.loop(link.watch(tasks, plane.activator), name="watch controllers")
                tasks.loop(link.report(), name="report load")

                async def become_ready() -> None:
                    await link.synced.wait()
                    life.ready(http=listener.address, admin=admin.address)

                becoming = tasks.spawn(become_ready(), name="become ready")
                await life.wait_stop()

                becoming.cancel()
                life.not_ready()
                await asyncio.sleep(config.stop_delay)
                cut = await listener.stop(config.stop_grace)
                await link.report_once(leaving=True)
                log.info("stopped", requests_cut_off=cut)


def build_plane(config: RouterConfig, link: ControllerLink, tasks: OwnedTasks) -> DataPlane:
    """Puts the data plane together, on the table that `link` keeps."""

    def spawn(work: Coroutine[Any, Any, None], name: str) -> object:
        return tasks.spawn(work, name=name)

    activator = Activator(
        link.table,
        link.ask,
        spawn,
        queue_size=config.queue_size,
        queue_total=config.queue_total,
        timeout=config.queue_timeout,
    )
    access_log = write_access_line if config.access_log else None
    return DataPlane(config, link.table, activator, TimerWheel(), spawn, access_log)


@contextmanager
def collected(collector: RouterCollector) -> Iterator[None]:
    """The collector's metrics are scraped inside the block."""
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)


if __name__ == "__main__":
    main()
