"""`sanfran-controller`: turns names into running pods, and tells routers where they are."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from sanfran_common.config import parse_config
from sanfran_common.lifecycle import Lifecycle, OwnedTasks, run_service
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.roles import Role
from sanfran_common.rpc.server import RpcServer
from sanfran_common.rpc.tls import Tls
from sanfran_common.telemetry.admin import AdminServer

from sanfran_controller.activation import Activator
from sanfran_controller.adoption import Adoption
from sanfran_controller.autoscale import Autoscaler
from sanfran_controller.bundles import SmallBundles
from sanfran_controller.catalog import Catalog
from sanfran_controller.catalog_watch import CatalogWatch
from sanfran_controller.config import ControllerConfig
from sanfran_controller.fleet import Fleet
from sanfran_controller.functions import Functions
from sanfran_controller.homing import Homing
from sanfran_controller.load import Loads
from sanfran_controller.pool import Pool, PoolLimits
from sanfran_controller.providers import PodProvider
from sanfran_controller.providers.local import LocalPods
from sanfran_controller.routes import Routes
from sanfran_controller.scaling import ScalingPolicy
from sanfran_controller.service import ControllerService
from sanfran_controller.updates import Updates

FIRST_POD: dict[str, float | None] = {"local": None, "kubernetes": 30.0}
"""Seconds that readiness waits for the first pod. In a cluster without room it would wait for those of the controllers
that this one is to follow, which wait for its readiness."""
START_TIMEOUTS = {"local": 30.0, "kubernetes": 120.0}
"""Seconds, where none are set."""
CLUSTER_START = 3.0
"""Seconds that a pod takes in a cluster, until one was seen to."""
CLUSTER_PATIENCE = 60.0
"""Seconds that it may take there in any case: an image has to be fetched, or a node starts many at a time. More pods
would only make each later."""


def main() -> None:
    """Entry point of the command."""
    config = parse_config(
        ControllerConfig,
        prefix="SANFRAN_CONTROLLER",
        prog="sanfran-controller",
        description="Keeps a pool of warm pods and makes them serve functions.",
    )
    run_service(lambda life: serve(config, life), config, "controller")


async def serve(config: ControllerConfig, life: Lifecycle) -> None:
    """The service, from the first connection to the ordered stop.

    Calls are taken only when it is known what the pods that exist run: until then routers go on with
    the routes that they have from the controller process before this one.
    """
    # A process's id, for routes; its pods carry the name, which outlives it.
    identity = f"{config.name}-{secrets.token_hex(4)}"
    policy = ScalingPolicy()
    loads = Loads()
    routes = Routes(identity)
    async with (
        AdminServer(config.admin, life) as admin,
        Tls(config.tls_dir, Role.CONTROLLER) as tls,
        RpcClient(config.api, secret=config.rpc_secret, tls=tls.to(Role.API)) as api,
        _pods(config, identity, tls) as (provider, prefix),
    ):
        limits = PoolLimits(
            size=config.pool_size,
            most=config.pool_max,
            pods=config.max_pods,
            starts_at_once=config.starts_at_once,
        )
        if config.provider == "kubernetes":
            limits = replace(
                limits,
                first_guess=CLUSTER_START,
                overdue_least=CLUSTER_PATIENCE,
                recycling_is_faster=config.recycle == "in-place",
            )
        pool = Pool(limits)
        catalog = Catalog(api)
        fleet = Fleet(
            provider,
            pool,
            owner=config.name,
            prefix=prefix,
            replace_pods=config.recycle == "replace",
            secret=config.rpc_secret,
            tls=tls.to(Role.SIDECAR),
            start_timeout=config.start_timeout or START_TIMEOUTS[config.provider],
            claims_most=config.max_waiting,
        )
        functions = Functions(
            catalog, fleet, routes, loads, policy, adopt_patience=config.sync_patience / 2
        )
        fleet.attach(functions)
        adoption = Adoption(provider, fleet.record)
        bundles = SmallBundles(api, most=config.bundle_cache_bytes)
        activator = Activator(catalog, functions, fleet, bundles, timeout=config.activation_timeout)
        updates = Updates(catalog, functions, fleet, routes, activator, bundles)
        watch = CatalogWatch(api, catalog, updates, watcher=identity, record=fleet.record)
        autoscaler = Autoscaler(
            catalog,
            functions,
            activator,
            loads,
            policy,
            fleet.decisions,
            idle_timeout=config.idle_timeout,
            elsewhere=lambda name: fleet.record.ownership.home(name) is not None,
            unsettled=fleet.record.unsettled,
        )
        homing = Homing(
            catalog,
            functions,
            fleet.record.ownership,
            secret=config.rpc_secret,
            tls=tls.to(Role.CONTROLLER),
        )
        service = ControllerService(activator, catalog, functions, fleet, routes, loads)
        async with adoption:
            await _until_stop(life, adoption.acquire())
            async with (
                bundles,
                fleet,
                activator,
                updates,
                service,
                OwnedTasks("controller") as tasks,
            ):
                tasks.loop(watch.run(), name="watch functions")
                await _until_stop(life, _learn(fleet, catalog, config.sync_patience))
                tasks.loop(autoscaler.run(), name="scale")
                tasks.loop(homing.run(), name="hand back")
                async with RpcServer(
                    [service], config.rpc_listen, secret=config.rpc_secret, tls=tls
                ) as server:
                    adoption.serves(server.address)
                    if config.pool_size and not functions.warm:
                        await _until_stop(life, _filled(fleet, FIRST_POD[config.provider]))
                    if not life.stopping.is_set():
                        life.ready(rpc=server.address, admin=admin.address)
                    await life.wait_stop()
                    life.not_ready()
                    await server.drain(config.stop_grace)


@asynccontextmanager
async def _pods(
    config: ControllerConfig, identity: str, tls: Tls
) -> AsyncGenerator[tuple[PodProvider, str]]:
    """Where pods come from, and what their names begin with."""
    if config.provider == "kubernetes":
        # Only here: the client takes a second to import, and 60 MB.
        from sanfran_controller.providers.kubernetes.connect import open_pods

        async with open_pods(config, identity) as (pods, prefix):
            yield pods, prefix
    else:
        sidecars = tls.to(Role.SIDECAR)
        async with RpcClient(config.pods, secret=config.rpc_secret, tls=sidecars) as host:
            yield LocalPods(host, owner=config.name, process=identity), config.name


async def _filled(fleet: Fleet, patience: float | None) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await fleet.stock.filled.wait()


async def _learn(fleet: Fleet, catalog: Catalog, patience: float) -> None:
    await asyncio.gather(fleet.settle(patience), catalog.wait_synced(patience))


async def _until_stop(life: Lifecycle, work: Coroutine[Any, Any, object]) -> None:
    """Returns when the work is done, or the stop comes before that."""
    async with OwnedTasks("start") as starting:
        either = {
            starting.spawn(work, name="work"),
            starting.spawn(life.wait_stop(), name="stop"),
        }
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)


if __name__ == "__main__":
    main()
