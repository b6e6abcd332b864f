"""`sanfran-pod-host`: many pods on one machine."""

from __future__ import annotations

import os
import resource

from sanfran_common.config import parse_config
from sanfran_common.lifecycle import Lifecycle, OwnedTasks, run_service
from sanfran_common.rpc.roles import Role
from sanfran_common.rpc.server import RpcServer
from sanfran_common.rpc.tls import Tls
from sanfran_common.telemetry.admin import AdminServer
from sanfran_common.telemetry.logs import get_logger

from sanfran_sidecar.host.pods import HostedPods
from sanfran_sidecar.host.service import PodHost
from sanfran_sidecar.parts import open_parts
from sanfran_sidecar.settings import PodHostConfig

log = get_logger("host")

FILES = 256
"""Open files apart from those of pods: connections, bundles being unpacked, logs."""
FILES_PER_POD = 16
"""Control socket, pidfd, two pipes, listener, and a connection of each controller."""


def main() -> None:
    """Entry point."""
    config = parse_config(
        PodHostConfig,
        prefix="SANFRAN_POD_HOST",
        prog="sanfran-pod-host",
        description="Runs many pods on this machine, each with its own Sidecar service.",
    )
    run_service(lambda life: serve(config, life), config, "pod-host")


def allow_files(pods: int) -> None:
    """Raises the limit on open files, where that is allowed, to what so many pods need."""
    wanted = FILES + pods * FILES_PER_POD
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("few open files allowed", allowed=allowed, wanted=wanted)


async def serve(config: PodHostConfig, life: Lifecycle) -> None:
    """Serves until told to stop."""
    allow_files(config.max_pods)
    starts_at_once = config.starts_at_once or os.cpu_count() or 1
    async with (
        AdminServer(config.admin, life) as admin,
        Tls(config.tls_dir, Role.SIDECAR) as tls,
        open_parts(config, tls, starts_at_once=starts_at_once) as parts,
        OwnedTasks("pods") as tasks,
    ):
        pods = HostedPods(
            parts,
            tasks,
            max_pods=config.max_pods,
            over_tcp=config.sidecar_listen == "tcp",
            secret=config.rpc_secret,
            tls=tls,
        )
        async with RpcServer(
            [PodHost(pods)], config.listen, secret=config.rpc_secret, tls=tls
        ) as server:
            life.ready(rpc=server.address, admin=admin.address)
            await life.wait_stop()
            life.not_ready()
            await pods.stop(config.stop_grace)


if __name__ == "__main__":
    main()
