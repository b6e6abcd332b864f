"""The command `sanfran-api`."""

from __future__ import annotations

import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from sanfran_common.config import parse_config
from sanfran_common.lifecycle import Lifecycle, OwnedTasks, run_service
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.roles import Role
from sanfran_common.rpc.server import RpcServer
from sanfran_common.rpc.tls import Tls
from sanfran_common.telemetry.admin import AdminServer
from sanfran_common.telemetry.logs import get_logger

from sanfran_api.access.access import Access
from sanfran_api.access.calls import AdmittedCalls
from sanfran_api.access.hashing import COMMAND, print_user
from sanfran_api.access.invocations import Invocations
from sanfran_api.access.operations import FOR_USERS
from sanfran_api.builds.builder import Builder
from sanfran_api.builds.cache import BuildCache
from sanfran_api.builds.npm import Npm, NpmLimits, find_node, own_config
from sanfran_api.bundles.layout import Limits
from sanfran_api.bundles.pack import Packer
from sanfran_api.config import ApiConfig
from sanfran_api.controllers import Controllers
from sanfran_api.functions import Functions
from sanfran_api.intake import Intake
from sanfran_api.rest.admission import Audited, admission
from sanfran_api.rest.app import build_app
from sanfran_api.rest.guard import Guard
from sanfran_api.rest.server import RestServer
from sanfran_api.rest.turns import Turns
from sanfran_api.rpc import ApiRpc
from sanfran_api.store.backups import Backups
from sanfran_api.store.store import Store
from sanfran_api.store.vault import Vault
from sanfran_api.watch import Watchers

log = get_logger("api")


def main() -> None:
    """Runs the service until it is told to stop, or prints a user for its users file."""
    if sys.argv[1:2] == [COMMAND]:
        print_user(sys.argv[2:])
        return
    config = parse_config(
        ApiConfig,
        prefix="SANFRAN_API",
        prog="sanfran-api",
        description="The store of functions, with REST for people and gRPC for services.",
    )

    async def run(life: Lifecycle) -> None:
        await serve(config, life)

    run_service(run, config, "api")


async def serve(config: ApiConfig, life: Lifecycle) -> None:
    """Builds the parts, serves until the stop, and ends them in order."""
    limits = Limits(
        upload_bytes=config.max_upload_bytes,
        unpacked_bytes=config.max_unpacked_bytes,
        files=config.max_files,
    )
    watchers = Watchers(expected=bool(config.controllers))
    key_file = Path(config.secrets_key_file).expanduser() if config.secrets_key_file else None
    async with AsyncExitStack() as parts:
        tls = await parts.enter_async_context(Tls(config.tls_dir, Role.API))
        store = await parts.enter_async_context(
            Store(
                config.data,
                limit=config.max_store_bytes,
                keep_versions=config.keep_versions,
                vault=Vault(key_file or config.data / "secrets.key", own=key_file is None),
                changed=watchers.changed,
                applied=watchers.applied_everywhere,
            )
        )
        builder = await parts.enter_async_context(_builder(config, limits))
        packer = await parts.enter_async_context(Packer(limits, store.scratch, builder))
        intake = Intake(
            packer,
            limit=config.max_upload_bytes,
            at_once=config.max_uploads,
            idle_timeout=config.upload_idle_timeout,
        )
        functions = Functions(store, watchers, packer, apply_timeout=config.apply_timeout)
        client: RpcClient | None = None
        if config.controllers:
            client = RpcClient(
                config.controllers, secret=config.rpc_secret, tls=tls.to(Role.CONTROLLER)
            )
            await parts.enter_async_context(client)
        access = await parts.enter_async_context(Access(config))
        app = build_app(
            functions,
            intake,
            Controllers(client, life.stopping),
            store,
            Backups(store, config.data, config.max_store_bytes),
            public_url=config.public_url,
            limits={
                "max_upload_bytes": config.max_upload_bytes,
                "max_unpacked_bytes": config.max_unpacked_bytes,
                "max_files": config.max_files,
            },
            admit=admission(access.gate, access.audit, trust_forwarded=config.trust_forwarded),
        )
        tasks = await parts.enter_async_context(OwnedTasks("api"))
        tasks.loop(store.run(), name="store")
        admin = await parts.enter_async_context(AdminServer(config.admin, life))
        calls = AdmittedCalls(
            ApiRpc(functions, intake, store, watchers, Invocations(access.gate, access.audit)),
            access.gate,
            access.audit,
            secret=config.rpc_secret,
            by_certificate=tls.on and not config.rpc_listen.startswith("unix:"),
        )
        # Who has neither secret nor certificate may only call what asks them who they are.
        rpc = await parts.enter_async_context(
            RpcServer(
                [calls],
                config.rpc_listen,
                secret=config.rpc_secret,
                tls=tls,
                ask_themselves=frozenset() if access.gate.open else FOR_USERS,
                reflect=True,
            )
        )
        guard = Guard(Audited(app, access.audit), _hosts(config, asks=not access.gate.open))
        rest = await parts.enter_async_context(
            RestServer(Turns(guard), config.listen, grace=config.stop_grace)
        )
        life.ready(http=rest.address, rpc=rpc.address, admin=admin.address)
        await life.wait_stop()
        life.not_ready()
        watchers.close()
        await rest.stop()
        await rpc.drain(config.stop_grace)


def _builder(config: ApiConfig, limits: Limits) -> Builder:
    npm: Npm | None = None
    try:
        npm = Npm(
            Path(config.node) if config.node else find_node(),
            NpmLimits(
                timeout=config.build_timeout,
                memory=config.build_memory,
                output=config.build_output,
            ),
            limits,
            registry=config.npm_registry,
            config=Path(config.npm_config) if config.npm_config else own_config(os.environ),
            environ=os.environ,
            reaches=config.builds_reach,
        )
    except FileNotFoundError as error:
        log.warning("no npm builds", why=str(error))
    cache = BuildCache(
        Path(config.build_dir) if config.build_dir else config.data / "builds",
        config.build_cache_bytes,
    )
    return Builder(npm, cache, limits, at_once=config.builds_at_once, waiting=config.builds_waiting)


def _hosts(config: ApiConfig, *, asks: bool) -> frozenset[str] | None:
    names = config.allowed_hosts.split(",")
    listed = frozenset(name.strip().lower() for name in names if name.strip())
    # A name that an attacker made resolve to us gets them nothing where callers are asked who they are.
    return listed if listed or not asks else None
