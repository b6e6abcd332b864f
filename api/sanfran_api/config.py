"""Settings of sanfran-api."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sanfran_common.config import (
    ServiceConfig,
    folder,
    host_port,
    positive_int,
    seconds,
    setting,
    split_host_port,
)

MIB = 1024 * 1024


def rpc_address(value: str) -> str:
    """`host:port` or `unix:/path`."""
    if value.startswith("unix:/"):
        return value
    try:
        return host_port(value)
    except ValueError:
        raise ValueError(
            "is no address; try 127.0.0.1:8091 or unix:/run/sanfran/api.sock"
        ) from None


def base_url(value: str) -> str:
    """An http(s) URL without query; its trailing slash is dropped."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("is no http URL; try http://127.0.0.1:8080")
    return value.rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiConfig(ServiceConfig):
    """See `sanfran-api --help`."""

    data: Path = setting(  # noqa: RUF009  # a Path does not change
        Path("sanfran-data"), help="folder of the store; one process at a time", parse=folder
    )
    listen: str = setting(
        "127.0.0.1:8081", help="address of REST; port 0 picks a free one", parse=host_port
    )
    rpc_listen: str = setting(
        "127.0.0.1:8091",
        help="address of gRPC: host:port (port 0 picks one) or unix:/path",
        parse=rpc_address,
    )
    insecure_listen: bool = setting(
        False,
        help="allow REST, which asks nobody who they are, on an address that others can reach",
    )
    allowed_hosts: str = setting(
        "", help="names, comma-separated, under which REST may be called besides localhost and IPs"
    )
    controllers: str = setting(
        "", help="gRPC addresses of the controllers, for status and logs; empty: none"
    )
    public_url: str = setting(
        "http://127.0.0.1:8080", help="where callers reach the router", parse=base_url
    )
    max_upload_bytes: int = setting(100 * MIB, help="largest upload, in bytes", parse=positive_int)
    max_unpacked_bytes: int = setting(
        500 * MIB, help="most bytes of all files of a function, unpacked", parse=positive_int
    )
    max_files: int = setting(
        50_000, help="most files and folders of a function", parse=positive_int
    )
    max_uploads: int = setting(
        16, help="uploads at the same time; further ones get 503", parse=positive_int
    )
    upload_idle_timeout: float = setting(
        30.0, help="seconds that an upload may stand still", parse=seconds
    )
    build_timeout: float = setting(
        300.0, help="seconds that installing a function's npm dependencies may take", parse=seconds
    )
    build_memory: int = setting(
        1024 * MIB, help="bytes of memory that one npm build may take", parse=positive_int
    )
    build_output: int = setting(
        MIB, help="bytes that one npm build may write to its output", parse=positive_int
    )
    builds_at_once: int = setting(2, help="npm builds at the same time", parse=positive_int)
    builds_waiting: int = setting(
        8, help="npm builds that wait for their turn; further ones get 503", parse=positive_int
    )
    build_dir: str = setting(
        "", help="folder of npm builds and their cache; empty: `builds` in the data folder"
    )
    build_cache_bytes: int = setting(
        2048 * MIB,
        help="most bytes of built node_modules that are kept, and as many of npm's downloads",
        parse=positive_int,
    )
    npm_registry: str = setting(
        "",
        help="where builds get packages whose .npmrc names no registry; empty: npm's own default",
        parse=lambda value: base_url(value) if value else "",
    )
    npm_config: str = setting(
        "", help="an npmrc for all builds, such as for private registries; empty: ~/.npmrc if any"
    )
    node: str = setting(
        "", help="the Node whose npm builds; empty: the one that comes with the installation"
    )
    max_store_bytes: int = setting(
        64 * 1024 * MIB, help="size that the store may grow to, in bytes", parse=positive_int
    )
    keep_versions: int = setting(
        20, help="versions kept of each function; older ones are removed", parse=positive_int
    )
    apply_timeout: float = setting(
        10.0,
        help="seconds that a change waits until every connected controller has applied it",
        parse=seconds,
    )
    stop_grace: float = setting(
        2.0, help="seconds that running requests get at a stop", parse=seconds
    )

    def __post_init__(self) -> None:
        host, _ = split_host_port(self.listen)
        if not self.insecure_listen and not is_loopback(host):
            raise ValueError(
                f"--listen: {self.listen!r} can be reached from other machines, and REST asks "
                "nobody who they are; try 127.0.0.1:8081, or add --insecure-listen where a "
                "network or a proxy keeps strangers out"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
