"""What the controller counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

PODS = Gauge("sanfran_controller_pods", "Pods by state", ["state"])
FUNCTIONS = Gauge("sanfran_controller_functions", "Functions that are known")
POOL_TARGET = Gauge("sanfran_controller_pool_target", "Generic pods wanted")
POOL_READY = Gauge("sanfran_controller_pool_ready", "Generic pods that can be claimed")
POOL_STARTING = Gauge("sanfran_controller_pool_starting", "Pods that start")
CLAIMS_WAITING = Gauge("sanfran_controller_claims_waiting", "Claims that wait for a pod")
POOL_MISSES = Counter(
    "sanfran_controller_pool_misses", "Claims that found no generic pod, by kind", ["kind"]
)
DECISIONS = Counter(
    "sanfran_controller_decisions",
    "Pods that decisions were about: start, stop, reclaim, hold, scale_up, scale_down, hand_back",
    ["decision", "reason"],
)
STARTS = Counter("sanfran_controller_pod_starts", "Pods asked for, by outcome", ["outcome"])
START_SECONDS = Histogram(
    "sanfran_controller_pod_start_seconds",
    "From asking for a pod until it is generic",
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
ADOPTED = Counter(
    "sanfran_controller_pods_adopted", "Pods taken over from controllers that live no more"
)
LOST = Counter("sanfran_controller_pods_lost", "Pods that went without being told to")
ACTIVATIONS = Counter("sanfran_controller_activations", "Activations by outcome", ["outcome"])
_MILLISECONDS = (0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.05, 0.1, 0.5, 1, 5, 10)
STEP_SECONDS = Histogram(
    "sanfran_controller_activation_seconds",
    "Time of an activation by step: queue (a caller, all of it), claim (until there is a pod), "
    "call (the sidecar's answer), fetch (the bundle), load (inside Node)",
    ["step"],
    buckets=_MILLISECONDS,
)
ROUTERS = Gauge("sanfran_controller_routers", "Routers that watch routes")
KUBERNETES_PODS = Gauge(
    "sanfran_controller_kubernetes_pods", "Pods of all controllers that the API server tells of"
)
WATCHES = Counter(
    "sanfran_controller_kubernetes_watches",
    "Watches that ended, and how they went on: resume, or relist after 410",
    ["kind", "then"],
)
KUBERNETES_REFUSALS = Counter(
    "sanfran_controller_kubernetes_refusals",
    "Creates of pods that failed, by HTTP status",
    ["status"],
)
