"""`sanfran-pod-host`: many pods on one machine."""

from __future__ import annotations

import os

from sanfran_common.config import parse_config
from sanfran_common.lifecycle import Lifecycle, OwnedTasks, run_service
from sanfran_common.rpc.server import RpcServer
from sanfran_common.telemetry.admin import AdminServer

from sanfran_sidecar.host.pods import HostedPods
from sanfran_sidecar.host.service import PodHost
from sanfran_sidecar.parts import open_parts
from sanfran_sidecar.settings import PodHostConfig


def main() -> None:
    """Entry point."""
    config = parse_config(
        PodHostConfig,
        prefix="SANFRAN_POD_HOST",
        prog="sanfran-pod-host",
        description="Runs many pods on this machine, each with its own Sidecar service.",
    )
    run_service(lambda life: serve(config, life), config, "pod-host")


async def serve(config: PodHostConfig, life: Lifecycle) -> None:
    """Serves until told to stop."""
    starts_at_once = config.starts_at_once or os.cpu_count() or 1
    async with (
        AdminServer(config.admin, life) as admin,
        open_parts(config, starts_at_once=starts_at_once) as parts,
        OwnedTasks("pods") as tasks,
    ):
        pods = HostedPods(
            parts,
            tasks,
            max_pods=config.max_pods,
            over_tcp=config.sidecar_listen == "tcp",
            secret=config.rpc_secret,
        )
        async with RpcServer([PodHost(pods)], config.listen, secret=config.rpc_secret) as server:
            life.ready(rpc=server.address, admin=admin.address)
            await life.wait_stop()
            life.not_ready()
            await pods.stop(config.stop_grace)


if __name__ == "__main__":
    main()
