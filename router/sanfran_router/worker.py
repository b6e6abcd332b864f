"""A worker of the router: serves HTTP on sockets that the supervisor holds.

Workers share nothing. Each follows the controllers by itself, as several routers do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Coroutine
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from typing import Any

import structlog
from sanfran_common.lifecycle import Lifecycle, OwnedTasks, run_service
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.roles import Role
from sanfran_common.rpc.tls import Tls
from sanfran_common.telemetry.logs import get_logger

from sanfran_router.access_log import AccessLog
from sanfran_router.activation import Activator
from sanfran_router.authorization import Authorizer, api_asker
from sanfran_router.config import RouterConfig, read_config
from sanfran_router.control import ControllerLink
from sanfran_router.files import affordable
from sanfran_router.plane import AccessLog as AccessLine
from sanfran_router.plane import DataPlane
from sanfran_router.server import Listener, listening
from sanfran_router.supervised import SupervisorLink
from sanfran_router.table import Table
from sanfran_router.wheel import TimerWheel

log = get_logger("router")


def main(number: int, control: int, listeners: list[int], *, hold: bool) -> None:
    """What the supervisor runs in a process of its own, with the command line that it has itself.

    Args:
        number: of the worker, from 1.
        control: file descriptor of the socket to the supervisor.
        listeners: file descriptors of the listening sockets.
        hold: accept no connection until the supervisor says so.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor's, also when the group gets it
    # The standard input is the supervisor's.
    config = replace(read_config(), exit_with_stdin=False)
    config = replace(config, max_connections=affordable(config.max_connections))
    structlog.contextvars.bind_contextvars(worker=number)
    held = socket.socket(fileno=control)
    sockets = [socket.socket(fileno=one) for one in listeners]
    run_service(lambda life: serve(config, held, sockets, life, hold=hold), config, "router")


async def serve(
    config: RouterConfig,
    control: socket.socket,
    sockets: list[socket.socket],
    life: Lifecycle,
    *,
    hold: bool,
) -> None:
    """The worker, until it is told to stop or to retire, or the supervisor is gone.

    Unless held back it accepts at once, and answers what it can: 503 for functions that it cannot
    ask for. It is ready when one controller has told its routes.
    """
    with ExitStack() as stack:
        access_log = stack.enter_context(AccessLog()) if config.access_log else None
        async with (
            Tls(config.tls_dir, Role.ROUTER) as tls,
            RpcClient(
                config.controllers, secret=config.rpc_secret, tls=tls.to(Role.CONTROLLER)
            ) as controllers,
            AsyncExitStack() as more,
            OwnedTasks("router") as tasks,
        ):
            api: RpcClient | None = None
            if config.api:
                api = RpcClient(config.api, secret=config.rpc_secret, tls=tls.to(Role.API))
                await more.enter_async_context(api)
            link = ControllerLink(controllers, Table(), f"{socket.gethostname()}-{os.getpid()}")
            plane = build_plane(config, link, tasks, access_log, api)
            supervisor = SupervisorLink(
                control, plane, lambda: access_log.dropped if access_log else 0
            )
            async with listening(plane, sockets) as listener:
                tasks.spawn(supervisor.follow(life), name="orders")
                tasks.loop(supervisor.show_life(), name="show life")
                tasks.loop(link.watch(tasks, plane.activator), name="watch controllers")
                tasks.loop(link.report(), name="report load")
                if not hold:
                    supervisor.accept.set()
                tasks.spawn(_accept(listener, supervisor), name="accept")
                tasks.spawn(_become_ready(link, supervisor, life), name="become ready")
                retiring = tasks.spawn(
                    _retire(listener, supervisor, life, config.drain_timeout), name="retire"
                )
                await life.wait_stop()

                retiring.cancel()
                life.not_ready()
                if not (supervisor.gone or supervisor.retire.is_set()):
                    plane.wind_down()
                    await asyncio.sleep(config.stop_delay)
                cut = await listener.stop(config.stop_grace)
                await link.report_once(leaving=True)
                await supervisor.tell_counts()
                log.info("stopped", requests_cut_off=cut)


async def _accept(listener: Listener, supervisor: SupervisorLink) -> None:
    await supervisor.accept.wait()
    await listener.accept()


async def _become_ready(link: ControllerLink, supervisor: SupervisorLink, life: Lifecycle) -> None:
    await link.synced.wait()
    life.ready()
    await supervisor.say({"type": "ready"})


async def _retire(
    listener: Listener, supervisor: SupervisorLink, life: Lifecycle, patience: float
) -> None:
    await supervisor.retire.wait()
    log.info("retiring", connections=len(listener.plane.clients))
    await listener.retire(patience)
    life.request_stop("replaced")


def build_plane(
    config: RouterConfig,
    link: ControllerLink,
    tasks: OwnedTasks,
    access_log: AccessLine | None = None,
    api: RpcClient | None = None,
) -> DataPlane:
    """Puts the data plane together, on the table that `link` keeps.

    Args:
        api: knows who may call private functions; None: nobody may.
    """

    def spawn(work: Coroutine[Any, Any, None], name: str) -> object:
        return tasks.spawn(work, name=name)

    activator = Activator(
        link.table,
        link.ask,
        spawn,
        queue_size=config.queue_size,
        queue_total=config.queue_total,
        queue_bytes=config.queue_bytes,
        timeout=config.queue_timeout,
    )
    authorizer = Authorizer(api_asker(api), spawn, most_waiting=config.queue_total)
    return DataPlane(config, link.table, activator, TimerWheel(), spawn, authorizer, access_log)
