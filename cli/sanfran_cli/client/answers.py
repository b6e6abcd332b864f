"""What the api service answers, as types. Fields that a newer service adds are kept."""

from __future__ import annotations

from typing import TypedDict

from sanfran_cli.settings import Settings


class Pod(TypedDict, total=False):
    """A pod of a function."""

    pod: str
    state: str
    version: int
    address: str


class Status(TypedDict, total=False):
    """What becomes of a function right now."""

    pods: list[Pod]
    load_error: str
    """Message and stack of the last failed load; empty when there was none."""
    activations: int
    last_activation_ms: float
    in_flight: int
    queued: int
    calls: int
    """Requests since a controller met the function."""
    last_cold_start: str
    """When it was last called without having a pod, ISO 8601; absent: never."""
    last_cold_start_ms: float


class Function(TypedDict, total=False):
    """A function as the service shows it."""

    name: str
    version: int
    digest: str
    bundle_bytes: int
    entry: str
    settings: Settings
    hidden: list[str]
    """Settings that the caller may not see, and that are empty therefore."""
    source: str
    """What who sent the code called it: see `pack.fingerprint`; empty: nothing."""
    created_at: str
    """When this version was made, ISO 8601."""
    created_by: str
    """Who made it; empty: nobody was asked."""
    note: str
    """Why it is there; empty: it was made of what its maker sent."""
    url: str
    status: Status
    """In the answer of `get`, when a controller answers."""
    applied: bool
    """In the answers of `create` and `update`: no call that begins now meets an older version."""


class Caller(TypedDict, total=False):
    """Who asks."""

    user: str
    """Empty: nobody is asked there."""
    groups: list[str]
    privileges: list[str]
    """On at least one function."""


class ServiceInfo(TypedDict, total=False):
    """What the service says about itself."""

    version: str
    public_url: str
    limits: dict[str, int]
    """Such as `max_upload_bytes`."""
    defaults: Settings
    """The settings of a function that names none."""


class Rotated(TypedDict, total=False):
    """Secrets that were encrypted anew."""

    rotated: int
    key: str
    """Id of the key that all are encrypted with now."""


class Restored(TypedDict, total=False):
    """What there is after a restore."""

    functions: int
    applied: bool
    """Every controller knows it: no call that begins now meets anything of before."""


class Decision(TypedDict, total=False):
    """What a controller decided."""

    time: str
    kind: str
    reason: str
    pods: int
    function: str
    """Empty: the pool itself."""
    why: str
    facts: str


class Pool(TypedDict, total=False):
    """One controller's pool; the service's OpenAPI has all its fields."""

    controller: str
    address: str
    target: int
    size: int
    most: int
    max_pods: int
    claims_per_second: float
    start_seconds: float
    ready: int
    starting: int
    overdue: int
    returning: int
    waiting: int
    pods: dict[str, int]
    functions: int
    decisions: list[Decision]


class Pools(TypedDict, total=False):
    """Every controller's pool."""

    controllers: list[Pool]
    silent: list[str]
    """Addresses of controllers that do not answer."""


class LogLine(TypedDict, total=False):
    """One line that a function wrote."""

    time: str
    level: str
    text: str
    pod: str
    version: int
    request_id: str
