"""The controller's settings."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sanfran_common.config import (
    ServiceConfig,
    non_negative_int,
    positive_int,
    seconds,
    setting,
)
from sanfran_common.rpc.addresses import rpc_address, rpc_target


def controller_name(value: str) -> str:
    """A DNS-1123 label that leaves room for the rest of a pod's name."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?", value):
        raise ValueError("is not a name of a-z, 0-9 and -, at most 50 long; try controller-0")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerConfig(ServiceConfig):
    """See docs/controller.md."""

    rpc_listen: str = setting(
        "127.0.0.1:9091",
        help="gRPC address to listen on: host:port or unix:/path; port 0 picks one",
        parse=rpc_address,
    )
    api: str = setting("127.0.0.1:8091", help="gRPC addresses of the api service", parse=rpc_target)
    pods: str = setting("127.0.0.1:8085", help="gRPC address of the pod host", parse=rpc_target)
    name: str = setting(
        "controller",
        help="this controller's name, the same after a restart: pods that carry it are its own",
        parse=controller_name,
    )
    pool_size: int = setting(
        4, help="generic pods kept ready, also without traffic", parse=non_negative_int
    )
    pool_max: int = setting(
        64,
        help="generic pods at most, however fast they are taken; never below pool-size",
        parse=non_negative_int,
    )
    max_pods: int = setting(1000, help="pods at most, generic and active", parse=positive_int)
    starts_at_once: int = setting(
        8, help="pods that start at the same time at most", parse=positive_int
    )
    start_timeout: float = setting(
        30.0, help="seconds until a pod that does not get ready is given up", parse=seconds
    )
    idle_timeout: float = setting(
        60.0,
        help="seconds without a request until a pod is recycled, where a function sets none",
        parse=seconds,
    )
    activation_timeout: float = setting(
        10.0, help="seconds for an activation, the wait for a pod included", parse=seconds
    )
    max_waiting: int = setting(
        10000, help="activations that may wait for a pod at the same time", parse=positive_int
    )
    sync_patience: float = setting(
        5.0,
        help="seconds to wait at start for the api service and for the pods that exist",
        parse=seconds,
    )
    bundle_cache_bytes: int = setting(
        32 << 20,
        help="memory for small bundles, which then travel inside an activation; 0: none",
        parse=non_negative_int,
    )
    stop_grace: float = setting(
        5.0, help="seconds for running calls at a stop; pods go on in any case", parse=seconds
    )

    def __post_init__(self) -> None:
        if self.max_pods < self.pool_size:
            raise ValueError(
                f"--max-pods: {self.max_pods} is less than --pool-size {self.pool_size}; "
                f"try {self.pool_size * 10}"
            )
