"""What REST answers, for OpenAPI and for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sanfran_proto.sanfran import v1 as pb

from sanfran_api.access.privileges import Privilege
from sanfran_api.access.rules import Caller as Who
from sanfran_api.settings import Settings, ShownSettings, shown


class Answer(BaseModel):
    """Fields that are absent are left out."""

    model_config = ConfigDict(frozen=True)


class Pod(Answer):
    """A pod of a function."""

    pod: str
    state: str
    version: int
    address: str


class Status(Answer):
    """What the controllers know of a function."""

    pods: list[Pod]
    load_error: str = Field(
        description="Message and stack of the last failed load of the current version."
    )
    activations: int = Field(description="Since the controllers started.")
    last_activation_ms: float
    in_flight: int = Field(description="Requests that run, on all routers, a second ago at most.")
    queued: int = Field(description="Requests that wait for a pod.")
    calls: int = Field(description="Requests since a controller met the function.")
    last_cold_start: str | None = Field(
        None, description="When it was last called without having a pod; absent: never."
    )
    last_cold_start_ms: float = Field(description="Until there was one.")


class Function(Answer):
    """A function and its current version."""

    name: str = Field(examples=["hello"])
    version: int = Field(description="Grows with every change; never given twice to one name.")
    digest: str = Field(description="SHA-256 of the bundle, a canonical tar.")
    bundle_bytes: int
    entry: str = Field(description="The module that is loaded.", examples=["index.js"])
    settings: ShownSettings
    source: str = Field(description="What who sent the code called it; empty: nothing.")
    created_at: str = Field(description="When this version was made.")
    created_by: str = Field(description="Who made it; empty: nobody was asked.")
    note: str = Field(description="Why it is there; empty: it was made of what its maker sent.")
    url: str = Field(description="Where it answers.", examples=["http://127.0.0.1:8080/fn/hello"])
    hidden: list[str] = Field(
        description="Settings that are shown empty, because you lack settings:view on it.",
        examples=[["env"]],
    )


class FunctionWithStatus(Function):
    """A function, and what becomes of it right now."""

    status: Status | None = Field(None, description="Absent when no controller answers.")


class Deployed(Function):
    """A function as it was made or changed."""

    applied: bool = Field(
        description="Every connected controller has applied it: no call that begins now meets an "
        "older version. False when that took too long; it will follow."
    )


class Functions(Answer):
    """A page of functions, by name."""

    functions: list[FunctionWithStatus]
    next_after: str = Field(description="Ask again with after=…; empty on the last page.")


class Versions(Answer):
    """The versions of a function that are kept."""

    versions: list[Function] = Field(description="The newest first, which is the current one.")


class Rotated(Answer):
    """Secrets that were encrypted anew."""

    rotated: int = Field(description="Secrets, of all versions that are kept.")
    key: str = Field(description="Id of the key that all are encrypted with now.")


class Restored(Answer):
    """What there is after a restore."""

    functions: int
    applied: bool = Field(
        description="Every controller has applied it: no call that begins now meets anything of before."
    )


class Decision(Answer):
    """What a controller decided."""

    time: str
    kind: str = Field(
        description="start, stop, reclaim, hold: of the pool; scale_up, scale_down: of a function.",
        examples=["start"],
    )
    reason: str = Field(description="Why, for programs.", examples=["claims_wait"])
    pods: int = Field(description="How many it was about.")
    function: str = Field(description="Empty: the pool itself.")
    why: str = Field(description="For people.")
    facts: str = Field(description="How things stood.")


class Pool(Answer):
    """One controller's pool of generic pods."""

    controller: str
    address: str
    target: int = Field(description="Generic pods wanted.")
    size: int = Field(description="This controller's part of --pool-size.")
    most: int = Field(description="This controller's part of --pool-max.")
    max_pods: int = Field(description="This controller's part of --max-pods.")
    claims_per_second: float
    start_seconds: float = Field(description="What pods took to start lately.")
    ready: int = Field(description="Generic pods that can be claimed now.")
    starting: int
    overdue: int = Field(description="Of those that start, the ones that take far too long.")
    returning: int = Field(description="Pods that are generic again in moments.")
    waiting: int = Field(description="Claims without a pod.")
    pods: dict[str, int] = Field(description="All pods by state.")
    functions: int = Field(description="Functions that have pods.")
    decisions: list[Decision] = Field(description="The latest, newest first.")


class Pools(Answer):
    """Every controller's pool."""

    controllers: list[Pool]
    silent: list[str] = Field(description="Addresses of controllers that do not answer.")


class Service(Answer):
    """What this service is."""

    version: str
    public_url: str = Field(description="Of the router; functions answer below its /fn/.")
    limits: dict[str, int]
    defaults: Settings = Field(description="The settings of a function that names none.")


class LogLine(Answer):
    """One line that a function wrote."""

    time: str
    level: str
    text: str
    pod: str
    version: int
    request_id: str = Field(description="Of the request whose handler wrote it; empty: of none.")


class ErrorDetail(Answer):
    """What went wrong."""

    code: str = Field(description="Stable, for programs.", examples=["bad_request"])
    message: str = Field(description="For people: what is wrong and what would work.")
    request_id: str
    field: str | None = Field(None, description="What it is about.", examples=["settings.timeout"])


class Error(Answer):
    """Every answer that is not a success."""

    error: ErrorDetail


class Caller(Answer):
    """Who asks, and what they may do."""

    user: str = Field(description="Empty: nobody is asked here.")
    groups: list[str]
    privileges: list[str] = Field(description="On at least one function.")


HIDDEN = ("env", "secrets")
"""Settings that only those who have settings:view get to see."""


def fields_of(version: pb.FunctionVersion, public_url: str, caller: Who) -> dict[str, Any]:
    """The fields of `Function`.

    Args:
        caller: who gets to see them.
    """
    settings = shown(version.settings)
    hidden = [] if caller.may(Privilege.VIEW_SETTINGS, version.name) else list(HIDDEN)
    if hidden:
        empty = {key: type(getattr(settings, key))() for key in hidden}
        settings = settings.model_copy(update=empty)
    return {
        "name": version.name,
        "version": version.version,
        "digest": version.digest,
        "bundle_bytes": version.bundle_bytes,
        "entry": version.entry,
        "settings": settings,
        "hidden": hidden,
        "source": version.source,
        "created_at": timestamp(version.created_at_ms),
        "created_by": version.created_by,
        "note": version.note,
        "url": f"{public_url}/fn/{version.name}",
    }


def status_of(status: pb.FunctionStatus) -> Status:
    """As the controllers told it."""
    return Status(
        pods=[
            Pod(pod=one.pod, state=one.state, version=one.version, address=one.address)
            for one in status.pods
        ],
        load_error=status.load_error,
        activations=status.activations,
        last_activation_ms=status.last_activation_ms,
        in_flight=status.in_flight,
        queued=status.queued,
        calls=status.calls,
        last_cold_start=timestamp(status.last_cold_at_ms) if status.last_cold_at_ms else None,
        last_cold_start_ms=status.last_cold_ms,
    )


def pool_of(address: str, pool: pb.PoolStatus, caller: Who) -> Pool:
    """As a controller told it, without decisions about functions that the caller may not see."""
    return Pool(
        controller=pool.controller,
        address=address,
        target=pool.target,
        size=pool.size,
        most=pool.most,
        max_pods=pool.max_pods,
        claims_per_second=round(pool.claims_per_second, 3),
        start_seconds=round(pool.start_seconds, 4),
        ready=pool.ready,
        starting=pool.starting,
        overdue=pool.overdue,
        returning=pool.returning,
        waiting=pool.waiting,
        pods=pool.pods,
        functions=pool.functions,
        decisions=[
            Decision(
                time=timestamp(one.time_ms),
                kind=one.kind,
                reason=one.reason,
                pods=one.pods,
                function=one.function,
                why=one.why,
                facts=one.facts,
            )
            for one in pool.decisions
            if not one.function or caller.may(Privilege.LIST, one.function)
        ],
    )


def log_line(line: pb.LogLine) -> LogLine:
    """As a controller sent it."""
    level = (line.level.name or "info").lower()
    return LogLine(
        time=timestamp(line.time_ms),
        level="info" if level == "unspecified" else level,
        text=line.text,
        pod=line.pod,
        version=line.version,
        request_id=line.request_id,
    )


def timestamp(ms: int) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
