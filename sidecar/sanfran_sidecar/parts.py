"""What one pod and many pods stand on, opened in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.roles import Role
from sanfran_common.rpc.tls import Tls
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_sidecar.cache import DigestCache
from sanfran_sidecar.fetch import ApiBundles
from sanfran_sidecar.folders import POD_PREFIX, PRIVATE, SHARED, RunFolder
from sanfran_sidecar.keeper import Keeper
from sanfran_sidecar.pod import Pod
from sanfran_sidecar.privileges import bind_children
from sanfran_sidecar.process import Launcher, NodeLauncher, find_node
from sanfran_sidecar.runtime import RuntimeStarter
from sanfran_sidecar.settings import PodConfig, PodHostConfig, SidecarConfig, folders
from sanfran_sidecar.state import Phase
from sanfran_sidecar.strays import NoStrays, kill_leftovers, make_strays
from sanfran_sidecar.unpack import Limits

log = get_logger("sidecar")

RUNTIME = Path(__file__).parent / "node" / "runtime.cjs"


class PodParts:
    """Makes pods that share a bundle cache and take turns to start their processes."""

    def __init__(
        self, config: PodConfig, run: RunFolder, starter: RuntimeStarter, bundles: DigestCache
    ) -> None:
        self._config = config
        self._starter = starter
        self._bundles = bundles
        self.run = run

    def make_pod(self, name: str, on_phase: Callable[[Phase], None] = lambda phase: None) -> Pod:
        """A pod, to be run by its owner."""
        return Pod(
            name,
            self._starter,
            self._bundles,
            load_timeout=self._config.load_timeout,
            log_lines=self._config.log_lines,
            print_logs=isinstance(self._config, SidecarConfig) and self._config.print_logs,
            on_phase=on_phase,
        )


@asynccontextmanager
async def open_parts(
    config: SidecarConfig | PodHostConfig, tls: Tls, *, starts_at_once: int
) -> AsyncIterator[PodParts]:
    """Takes the folders, clears what an earlier process left, and opens the way to the api.

    Where it starts Node itself, the process becomes the reaper of all its descendants, so it must have no
    other children.

    Raises:
        FolderInUse: another process holds one of the folders.
        FileNotFoundError: there is no Node, or no runtime.
    """
    run_dir, cache_dir = folders(config)
    shared = isinstance(config, SidecarConfig) and config.shared_dir
    mode = SHARED if shared else PRIVATE
    async with AsyncExitStack() as stack:
        run = stack.enter_context(RunFolder(run_dir, mode))
        if shared:
            launcher: Launcher = await stack.enter_async_context(Keeper(Path(shared)))
        else:
            launcher = _node_launcher(config, run, stack)
        run.clear()
        api = await stack.enter_async_context(
            RpcClient(config.api, secret=config.rpc_secret, tls=tls.to(Role.API))
        )
        limits = Limits(bytes=config.max_bundle_bytes, files=config.max_bundle_files)
        source = ApiBundles(pb.ApiStub(api.channel), config.fetch_timeout)
        bundles = await stack.enter_async_context(
            DigestCache(cache_dir, config.cache_bytes, source, limits, mode=mode)
        )
        starter = RuntimeStarter(
            launcher,
            run,
            http_host=config.http_host,
            timeout=config.start_timeout,
            at_once=starts_at_once,
        )
        yield PodParts(config, run, starter, bundles)


def _node_launcher(config: PodConfig, run: RunFolder, stack: AsyncExitStack) -> NodeLauncher:
    node = Path(config.node) if config.node else find_node()
    runtime = Path(config.runtime) if config.runtime else RUNTIME
    for path in (node, runtime):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there")
    if killed := kill_leftovers(run.path, POD_PREFIX):
        log.warning("processes of an earlier run killed", count=killed)
    bind_children()
    subreaper = make_strays()
    strays = stack.enter_context(subreaper) if subreaper is not None else NoStrays()
    return NodeLauncher(node.absolute(), runtime.absolute(), config.http_host, strays)
