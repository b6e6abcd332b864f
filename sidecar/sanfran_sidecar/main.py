"""`sanfran-sidecar`: the sidecar of one pod."""

from __future__ import annotations

import asyncio

from sanfran_common.config import parse_config
from sanfran_common.lifecycle import Lifecycle, OwnedTasks, run_service
from sanfran_common.rpc.roles import Role
from sanfran_common.rpc.server import RpcServer
from sanfran_common.rpc.term import TermFence
from sanfran_common.rpc.tls import Tls
from sanfran_common.telemetry.admin import AdminServer

from sanfran_sidecar.errors import PodGone
from sanfran_sidecar.parts import open_parts
from sanfran_sidecar.pod import Pod
from sanfran_sidecar.service import Sidecar
from sanfran_sidecar.settings import SidecarConfig
from sanfran_sidecar.state import Phase

LAST_ANSWERS = 0.5
"""Seconds for calls that learn of the pod's end to get their answer."""


def main() -> None:
    """Entry point."""
    config = parse_config(
        SidecarConfig,
        prefix="SANFRAN_SIDECAR",
        prog="sanfran-sidecar",
        description="Runs one pod: a Node process that loads a function's code on demand.",
    )
    run_service(lambda life: serve(config, life), config, "sidecar")


async def serve(config: SidecarConfig, life: Lifecycle) -> None:
    """Serves until told to stop.

    Raises:
        PodGone: the pod ended by itself; there is nothing left to serve.
    """
    async with (
        AdminServer(config.admin, life) as admin,
        Tls(config.tls_dir, Role.SIDECAR) as tls,
        open_parts(config, tls, starts_at_once=1) as parts,
        OwnedTasks("sidecar") as tasks,
    ):
        phases = _Phases()
        pod = parts.make_pod(config.pod, phases.saw)
        async with RpcServer(
            [Sidecar(pod)], config.listen, secret=config.rpc_secret, fence=TermFence(), tls=tls
        ) as server:
            living = tasks.spawn(pod.run(), name="pod")
            stop = tasks.spawn(life.wait_stop(), name="stop")
            warm = tasks.spawn(phases.first_generic.wait(), name="warm")
            await asyncio.wait({living, stop, warm}, return_when=asyncio.FIRST_COMPLETED)
            if warm.done():
                life.ready(rpc=server.address, admin=admin.address)
            await asyncio.wait({living, stop}, return_when=asyncio.FIRST_COMPLETED)
            life.not_ready()
            if stop.done():
                await pod.quiesce(config.stop_grace)
                pod.end("the sidecar stops")
            await living
            await pod.readers.wait_nobody(LAST_ANSWERS)
            await server.drain(LAST_ANSWERS)
            if not stop.done():
                raise PodGone(_reason(pod))


def _reason(pod: Pod) -> str:
    return pod.state().reason


class _Phases:
    """Notes when the pod is warm for the first time."""

    def __init__(self) -> None:
        self.first_generic = asyncio.Event()

    def saw(self, phase: Phase) -> None:
        if phase is Phase.GENERIC:
            self.first_generic.set()


if __name__ == "__main__":
    main()
