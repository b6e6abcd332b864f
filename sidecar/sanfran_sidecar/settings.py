"""Settings of `sanfran-sidecar` and of `sanfran-pod-host`."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sanfran_common.config import (
    ServiceConfig,
    folder,
    host_port,
    non_negative_int,
    one_of,
    positive_int,
    seconds,
    setting,
)
from sanfran_common.rpc.addresses import UNIX

from sanfran_sidecar.folders import check_run_folder
from sanfran_sidecar.keeper import RUN


def rpc_address(value: str) -> str:
    """`HOST:PORT` or `unix:/path` to listen on."""
    if value.startswith(UNIX):
        if not value.removeprefix(UNIX).startswith("/"):
            raise ValueError("has no absolute path; try unix:/tmp/sanfran/sidecar.sock")
        return value
    return host_port(value)


def run_folder(value: str) -> str:
    """A folder short enough for Unix sockets in it; empty: the default."""
    if value:
        check_run_folder(folder(value))
    return value


def cache_folder(value: str) -> str:
    """A folder; empty: the default."""
    if value:
        folder(value)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class PodConfig(ServiceConfig):
    """What a pod needs, alone or as one of many."""

    api: str = setting(
        "127.0.0.1:8091",
        help="gRPC addresses of the api service, for bundles; see docs/contracts.md",
    )
    http_host: str = setting(
        "127.0.0.1",
        help="address that the runtimes' HTTP servers listen on; with --shared-dir where routers reach them",
    )
    run_dir: str = setting(
        "",
        help="folder for private files and sockets, one per process; "
        "empty: in the temporary folder, by user and listening address",
        parse=run_folder,
    )
    cache_dir: str = setting(
        "",
        help="folder of unpacked bundles, one per process; empty: beside the default of --run-dir",
        parse=cache_folder,
    )
    cache_bytes: int = setting(
        2 << 30, help="bytes of unpacked bundles to keep on disk", parse=positive_int
    )
    max_bundle_bytes: int = setting(1 << 30, help="bytes of one bundle at most", parse=positive_int)
    max_bundle_files: int = setting(
        100_000, help="files and folders of one bundle at most", parse=positive_int
    )
    fetch_timeout: float = setting(30.0, help="seconds to fetch a bundle", parse=seconds)
    load_timeout: float = setting(30.0, help="seconds for a module to load", parse=seconds)
    start_timeout: float = setting(
        30.0, help="seconds for a Node process to become ready", parse=seconds
    )
    stop_grace: float = setting(
        3.0, help="seconds that running requests get when the process stops", parse=seconds
    )
    log_lines: int = setting(
        1000, help="lines of output to keep of each activation", parse=positive_int
    )
    node: str = setting(
        "", help="path of the Node executable; empty: the one installed with SanFran"
    )
    runtime: str = setting("", help="path of the runtime's file; empty: the one of the package")


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarConfig(PodConfig):
    """Settings of a sidecar that serves one pod."""

    pod: str = setting("pod", help="name of the pod")
    listen: str = setting(
        "127.0.0.1:8084", help="gRPC address, HOST:PORT or unix:/path", parse=rpc_address
    )
    shared_dir: str = setting(
        "",
        help="volume shared with the runtime's container, where that starts Node; empty: Node is started here",
        parse=run_folder,
    )
    print_logs: bool = setting(
        False, help="print what functions write as lines of this service's own log"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PodHostConfig(PodConfig):
    """Settings of a host of many pods."""

    listen: str = setting(
        "127.0.0.1:8085", help="gRPC address, HOST:PORT or unix:/path", parse=rpc_address
    )
    sidecar_listen: str = setting(
        "unix",
        help="how the pods' own gRPC servers listen: unix (in the run folder) or tcp (127.0.0.1)",
        parse=one_of("unix", "tcp"),
    )
    max_pods: int = setting(100, help="pods at most", parse=positive_int)
    starts_at_once: int = setting(
        0,
        help="Node processes started at the same time; 0: as many as cores",
        parse=non_negative_int,
    )


def folders(config: SidecarConfig | PodHostConfig) -> tuple[Path, Path]:
    """Run folder and cache folder of a process.

    By default both follow from the listening address, which only one process can have, so that it
    finds them again when it is restarted. In a shared volume the other container knows them.
    """
    key = hashlib.sha256(f"{type(config).__name__} {config.listen}".encode()).hexdigest()[:8]
    # Per user: what stands in a shared /tmp may belong to someone else.
    if isinstance(config, SidecarConfig) and config.shared_dir:
        return Path(config.shared_dir, RUN), Path(config.shared_dir, "bundles")
    own = f"{tempfile.gettempdir()}/sanfran-{os.getuid()}-{key}"
    run = folder(config.run_dir) if config.run_dir else Path(f"{own}-run")
    cache = folder(config.cache_dir) if config.cache_dir else Path(f"{own}-bundles")
    return run, cache
