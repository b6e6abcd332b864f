"""The router's settings."""

from __future__ import annotations

from dataclasses import dataclass

from sanfran_common.config import (
    ServiceConfig,
    host_port,
    non_negative_int,
    parse_config,
    positive_int,
    seconds,
    setting,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig(ServiceConfig):
    """Limits are per worker. Durations are seconds."""

    listen: str = setting(
        "127.0.0.1:8080", help="HTTP address; port 0 picks a free one", parse=host_port
    )
    controllers: str = setting(
        "127.0.0.1:9091",
        help="gRPC addresses of the controllers: a comma-separated list, or dns:HOST:PORT",
    )
    api: str = setting(
        "",
        help="gRPC addresses of the api service, which knows who may call private functions, in the "
        "same form; empty: nobody may",
    )
    workers: int = setting(
        1, help="processes that share the port, for as many cores", parse=positive_int
    )
    trust_forwarded: bool = setting(
        False,
        help="keep X-Forwarded-* of clients and append to them; for a router behind a proxy",
    )
    access_log: bool = setting(False, help="one JSON line on stdout per request")

    max_connections: int = setting(
        20000,
        help="client connections of one worker at once, if as many files may be open; "
        "further ones get 503",
        parse=positive_int,
    )
    max_head_bytes: int = setting(
        16384, help="bytes of a request's head; beyond it 431", parse=positive_int
    )
    max_headers: int = setting(100, help="headers of a request; beyond it 431", parse=positive_int)
    max_body_bytes: int = setting(
        8 << 30, help="bytes of a request's body; beyond it 413", parse=positive_int
    )
    replay_bytes: int = setting(
        65536,
        help="bytes of a request's body kept until the function's pod has taken the request, "
        "so that it can be sent to another pod",
        parse=non_negative_int,
    )
    queue_size: int = setting(
        1000, help="requests of one function that wait for a pod; beyond it 503", parse=positive_int
    )
    queue_total: int = setting(
        10000, help="requests of all functions that wait for a pod", parse=positive_int
    )
    queue_bytes: int = setting(
        64 << 20,
        help="bytes of the bodies of requests that wait for a pod; beyond it 503",
        parse=positive_int,
    )

    queue_timeout: float = setting(
        10.0, help="seconds that a request waits for a pod; then 503", parse=seconds
    )
    function_timeout: float = setting(
        60.0, help="seconds for a request whose function sets no timeout; then 504", parse=seconds
    )
    head_timeout: float = setting(
        10.0, help="seconds from a head's first byte to its last; then 408", parse=seconds
    )
    idle_timeout: float = setting(
        75.0,
        help="seconds that a client's connection may stay idle between requests",
        parse=seconds,
    )
    tunnel_idle_timeout: float = setting(
        300.0, help="seconds without a byte until an upgraded connection is closed", parse=seconds
    )
    connect_timeout: float = setting(1.0, help="seconds to connect to a pod", parse=seconds)
    pod_idle_timeout: float = setting(
        30.0,
        help="seconds that an idle connection to a pod is kept; less than the runtime keeps it",
        parse=seconds,
    )
    stop_delay: float = setting(
        0.0, help="seconds between not ready and not accepting, for load balancers", parse=seconds
    )
    stop_grace: float = setting(
        4.0, help="seconds for running requests to finish at a stop", parse=seconds
    )
    drain_timeout: float = setting(
        90.0,
        help="seconds that a worker replaced after SIGHUP serves on for its connections, "
        "before it stops as at a stop",
        parse=seconds,
    )


def read_config() -> RouterConfig:
    """The settings of this process's command line and environment; `SystemExit` for bad ones."""
    return parse_config(
        RouterConfig,
        prefix="SANFRAN_ROUTER",
        prog="sanfran-router",
        description="Routes HTTP requests for /fn/<name> to the pods that serve the function.",
    )
