"""What sanfran-api counts, at /metrics of the admin port."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

COMMIT_SECONDS = Histogram(
    "sanfran_api_commit_seconds",
    "One transaction of the store, fsync included",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
COMMIT_WRITES = Histogram(
    "sanfran_api_commit_writes",
    "Writes that shared one transaction",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
REQUESTS = Counter("sanfran_api_requests", "REST requests answered", ("method", "status"))
WATCHERS = Gauge("sanfran_api_watchers", "Controllers that follow the functions")
UNAPPLIED = Counter(
    "sanfran_api_unapplied", "Changes that some watcher had not applied when the wait for it ended"
)
BUNDLE_BYTES = Counter("sanfran_api_bundle_bytes", "Bytes of bundles sent")
BUILDS = Counter(
    "sanfran_api_builds",
    "npm builds by what came of them: built, cached, failed, cancelled",
    ("end",),
)
BUILD_SECONDS = Histogram(
    "sanfran_api_build_seconds",
    "One npm build, without the wait for its turn",
    buckets=(0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320),
)
