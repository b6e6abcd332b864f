"""The services of one machine: how they find each other, their start, and their end in order."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanfran_common.lifecycle import OwnedTasks

from sanfran_cli.up.folder import DataFolder
from sanfran_cli.up.logs import ServiceLog
from sanfran_cli.up.ports import ReservedPort
from sanfran_cli.up.service import Service
from sanfran_cli.up.terminal import warn

STOP_ORDER = {"router": 2.2, "controller": 2.8, "pod-host": 4.2, "api": 4.7}
"""Who stops after whom, and the seconds after the first signal at which each is killed. The router
comes first, so that running requests still have all they need; the promise to users is 5 seconds."""
STOP_GRACE = {"router": 1.8, "controller": 0.3, "pod-host": 0.2, "api": 0.3}
"""Seconds for what runs. When the turn of those after the router comes, the requests to functions
have been answered or given up."""
POOL_MAX = 64
MAX_PODS = 100
"""The services' own defaults, raised for a larger pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What `sanfran up` was told.

    Args:
        pool_size: generic pods that wait for functions.
        idle_timeout: seconds without traffic until a pod is recycled.
        router_workers: processes of the router that share its port.
        controllers: processes that share pool and functions.
    """

    pool_size: int
    idle_timeout: float
    router_workers: int
    controllers: int


def commands(
    options: EngineOptions, data: Path, run: Path, http: ReservedPort, api: ReservedPort
) -> dict[str, list[str]]:
    """The command line of each service, in the order of their start."""
    sockets = {name: f"unix:{run / name}.sock" for name in ("api", "router", "pod-host")}
    # By number, so that the name of the only one is what it was.
    controllers = {
        f"controller-{number}"
        if number > 1
        else "controller": f"unix:{run}/controller-{number}.sock"
        for number in range(1, options.controllers + 1)
    }
    every_controller = ",".join(controllers.values())
    max_pods = max(MAX_PODS, 2 * options.pool_size)
    lines = {
        "api": [
            *_python("sanfran_api.main"),
            *("--data", str(data / "store")),
            *("--listen", api.address),
            *("--rpc-listen", sockets["api"]),
            *("--controllers", every_controller),
            *("--public-url", http.url),
        ],
        "pod-host": [
            *_python("sanfran_sidecar.host.main"),
            *("--listen", sockets["pod-host"]),
            *("--api", sockets["api"]),
            *("--max-pods", str(max_pods)),
            *("--run-dir", str(run / "pods")),
            *("--cache-dir", str(data / "bundles")),
        ],
        **{
            name: [
                *_python("sanfran_controller.main"),
                *("--name", name),
                *("--rpc-listen", socket),
                *("--api", sockets["api"]),
                *("--pods", sockets["pod-host"]),
                *("--pool-size", str(options.pool_size)),
                *("--pool-max", str(max(POOL_MAX, options.pool_size))),
                *("--max-pods", str(max_pods)),
                *("--idle-timeout", f"{options.idle_timeout:g}"),
            ]
            for name, socket in controllers.items()
        },
        "router": [
            *_python("sanfran_router.main"),
            *("--listen", http.address),
            *("--controllers", every_controller),
            *("--api", sockets["api"]),
            *("--workers", str(options.router_workers)),
        ],
    }
    for name, line in lines.items():
        line += ["--exit-with-stdin", "--log-format", "json", "--admin", "127.0.0.1:0"]
        line += ["--stop-grace", f"{STOP_GRACE[_kind(name)]:g}"]
    return lines


def _kind(name: str) -> str:
    """What a service is: the name without the number of a further controller."""
    return "controller" if name.startswith("controller-") else name


def _python(module: str) -> list[str]:
    # -P: the folder that the user stands in must not shadow what a service imports.
    # What the console scripts do; those may lie elsewhere than the interpreter.
    return [sys.executable, "-P", "-c", f"from {module} import main; main()"]


class Engine:
    """Runs the services until it is told to stop.

    Args:
        command_lines: of each service, by name.
        folder: claimed.
        facts: for run.json, besides the services.
        verbose: all log lines go to the terminal.
    """

    def __init__(
        self,
        command_lines: dict[str, list[str]],
        folder: DataFolder,
        facts: dict[str, Any],
        *,
        verbose: bool = False,
    ) -> None:
        self._folder = folder
        self._facts = facts
        self._stop = asyncio.Event()
        self._unrecorded = False
        self._logs = {
            name: ServiceLog(name, folder.logs, verbose=verbose) for name in command_lines
        }
        environ = {**os.environ, "SANFRAN_RPC_SECRET": secrets.token_urlsafe(32)}
        self._services = {
            name: Service(
                name,
                command,
                environ=environ,
                run=folder.run,
                log=self._logs[name],
                inherited=(folder.services_lock,),
                changed=self._record,
            )
            for name, command in command_lines.items()
        }

    def stop(self) -> None:
        """What a signal does: the first begins the ordered stop, the second ends all at once."""
        if self._stop.is_set():
            for service in self._services.values():
                service.kill()
        self._stop.set()

    async def run(self, when_ready: Callable[[], Awaitable[None]]) -> None:
        """Starts everything, calls `when_ready`, and returns when all is stopped.

        Raises:
            StartFailed: a service did not become ready at its first start.
        """
        loop = asyncio.get_running_loop()
        try:
            async with OwnedTasks("engine") as tasks:
                for service in self._services.values():
                    tasks.spawn(service.keep(), name=service.name)
                try:
                    await self._start_and_wait(when_ready)
                finally:
                    await self._stop_in_order(loop.time())
        finally:
            for log in self._logs.values():
                log.close()

    async def _start_and_wait(self, when_ready: Callable[[], Awaitable[None]]) -> None:
        async def start() -> None:
            await asyncio.gather(*(one.first_ready for one in self._services.values()))
            for log in self._logs.values():
                log.starting = False
            await when_ready()

        # A group of its own: its failure must not cancel the services, which stop in order.
        async with OwnedTasks("engine") as tasks:
            tasks.spawn(start(), name="start")
            await self._stop.wait()

    async def _stop_in_order(self, since: float) -> None:
        self._stop.set()  # a signal from here on is a second one
        for kind, seconds in STOP_ORDER.items():
            same = [one for name, one in self._services.items() if _kind(name) == kind]
            await asyncio.gather(*(one.stop(since + seconds) for one in same))

    def _record(self) -> None:
        facts = {
            "pid": os.getpid(),
            **self._facts,
            "services": {
                name: {"pid": one.pid, "ready": one.is_ready, **one.addresses}
                for name, one in self._services.items()
            },
        }
        try:
            self._folder.record(facts)
        except OSError as error:  # a full disk must not end functions that run
            if not self._unrecorded:
                warn(f"{self._folder.path}/run.json cannot be written: {error.strerror}")
            self._unrecorded = True
        else:
            self._unrecorded = False
