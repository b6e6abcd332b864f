"""The controller's settings."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sanfran_common.config import (
    ServiceConfig,
    non_negative_int,
    one_of,
    positive_int,
    seconds,
    setting,
)
from sanfran_common.rpc.addresses import rpc_address, rpc_target


def controller_name(value: str) -> str:
    """A DNS-1123 label, as pods of a Deployment have for names."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", value):
        raise ValueError("is not a name of a-z, 0-9 and -, at most 63 long; try controller-0")
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
    provider: str = setting(
        "local",
        help="where pods come from: local (a pod host) or kubernetes (the cluster that the process runs in, "
        "else the one of KUBECONFIG)",
        parse=one_of("local", "kubernetes"),
    )
    pods: str = setting(
        "127.0.0.1:8085", help="gRPC address of the pod host (local)", parse=rpc_target
    )
    namespace: str = setting(
        "", help="namespace of the pods (kubernetes); empty: the one of the process's own pod"
    )
    pod_template: str = setting(
        "", help="file with the Pod that all pods are made from (kubernetes; required)"
    )
    pod_owner: str = setting(
        "",
        help="name of a Lease in that namespace that owns all that is made there, so that it goes with it "
        "(kubernetes); empty: nothing does",
    )
    recycle: str = setting(
        "in-place",
        help="what becomes of a pod whose activation ended: in-place (a fresh process makes it generic again) or "
        "replace (it is deleted)",
        parse=one_of("in-place", "replace"),
    )
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
        0.0,
        help="seconds until a pod that does not get ready is given up; 0: 30 with a pod host, 120 in a cluster, "
        "where its image may have to be fetched",
        parse=seconds,
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
        if self.provider == "kubernetes" and not self.pod_template:
            raise ValueError(
                "--pod-template: is empty; --provider kubernetes needs a file with a Pod"
            )
        if self.max_pods < self.pool_size:
            raise ValueError(
                f"--max-pods: {self.max_pods} is less than --pool-size {self.pool_size}; "
                f"try {self.pool_size * 10}"
            )
