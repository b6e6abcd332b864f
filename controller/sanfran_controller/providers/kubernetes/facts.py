"""What a pod's object says: a reading of `v1/Pod`. No I/O.

A pod is lost when any sign says so, before its object goes: it is being deleted or evicted, one of its containers ended or
was restarted (the fresh one is another process than the one that was activated), or it failed as a whole. Its UID tells
it from another pod of the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RELEASE, CONTROLLER, FUNCTION, VERSION = (
    "sanfran.dev/release",
    "sanfran.dev/controller",
    "sanfran.dev/function",
    "sanfran.dev/version",
)
"""Labels: which installation, whose pod, and what it runs."""
TERM, PROCESS, TEMPLATE = "sanfran.dev/term", "sanfran.dev/process", "sanfran.dev/template"
"""Annotations: of the owner, which of its processes took it over or made it, and from what template."""
SIDECAR = "sidecar"
"""The container that is called."""
STARTS = ("ContainerCreating", "PodInitializing", "")
"""Reasons to wait that are none to worry about."""
WORDS_MOST = 300
"""Characters of a message that are passed on."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """One pod.

    Args:
        name: its name.
        uid: never used again for another pod.
        version: its `resourceVersion`.
        owner: the controller whose it is.
        process: the process of that controller which made it or took it over.
        term: of the owner; see `PodSeen`.
        template: a digest of the template that it was made from.
        function: the label of what it runs; empty: nothing.
        function_version: likewise.
        address: of the pod; empty until it has one.
        running: its sidecar's container runs.
        containers: their ids, by name.
        lost: why it serves no more, or soon will not; empty: it does.
        terminating: it is being deleted already.
        grace: seconds that its processes get for that.
        waits: what keeps it from running, if that is not usual.
        unschedulable: why no node takes it.
    """

    name: str
    uid: str
    version: str
    owner: str
    process: str
    term: int
    template: str
    function: str
    function_version: str
    address: str
    running: bool
    containers: tuple[tuple[str, str], ...]
    lost: str
    terminating: bool
    grace: int
    waits: str
    unschedulable: str

    def is_older_than(self, other: PodFacts) -> bool:
        """Whether this is a former state of what the other is a state of."""
        if self.uid != other.uid or not (self.version.isdigit() and other.version.isdigit()):
            return False
        return int(self.version) < int(other.version)


def read(pod: dict[str, Any], before: PodFacts | None = None) -> PodFacts:
    """What the object says.

    Args:
        pod: a `v1/Pod`.
        before: what was known of the pod of this UID.
    """
    meta, status = pod["metadata"], pod.get("status") or {}
    labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
    containers = status.get("containerStatuses") or []
    conditions = {one["type"]: one for one in status.get("conditions") or []}
    ids = tuple(
        sorted((one["name"], one.get("containerID") or "") for one in containers if one.get("name"))
    )
    term = notes.get(TERM, "0")
    lost = _lost(meta, status, conditions, containers)
    if not lost and before is not None and before.uid == meta["uid"]:
        lost = before.lost or _changed(before.containers, ids)
    return PodFacts(
        name=meta["name"],
        uid=meta["uid"],
        version=meta["resourceVersion"],
        owner=labels.get(CONTROLLER, ""),
        process=notes.get(PROCESS, ""),
        term=int(term) if term.isascii() and term.isdigit() else 0,
        template=notes.get(TEMPLATE, ""),
        function=labels.get(FUNCTION, ""),
        function_version=labels.get(VERSION, ""),
        address=status.get("podIP") or "",
        running=any(
            one.get("name") == SIDECAR and "running" in (one.get("state") or {})
            for one in containers
        ),
        containers=ids,
        lost=lost,
        terminating=bool(meta.get("deletionTimestamp")),
        grace=int(meta.get("deletionGracePeriodSeconds") or 0),
        waits=_waits(containers),
        unschedulable=_unschedulable(conditions),
    )


def _lost(
    meta: dict[str, Any],
    status: dict[str, Any],
    conditions: dict[str, dict[str, Any]],
    containers: list[dict[str, Any]],
) -> str:
    disruption = conditions.get("DisruptionTarget", {})
    if disruption.get("status") == "True":
        return f"{disruption.get('reason', 'disrupted')}: {_words(disruption)}"
    for one in containers:
        state, last = one.get("state") or {}, one.get("lastState") or {}
        if "terminated" in state:
            return f"container {one['name']} ended: {_end(state['terminated'])}"
        if one.get("restartCount") or "terminated" in last:
            return f"container {one['name']} was restarted: {_end(last.get('terminated') or {})}"
    if meta.get("deletionTimestamp"):
        return "it is being deleted"
    phase = status.get("phase")
    if phase in ("Failed", "Succeeded", "Unknown") or status.get("reason") == "NodeLost":
        return f"{status.get('reason') or phase}: {_words(status)}"
    return ""


def _changed(before: tuple[tuple[str, str], ...], now: tuple[tuple[str, str], ...]) -> str:
    former = dict(before)
    for name, container in now:
        if former.get(name) and former[name] != container:
            return f"container {name} is another one now"
    return ""


def _end(terminated: dict[str, Any]) -> str:
    reason, code = terminated.get("reason") or "unknown", terminated.get("exitCode")
    return f"{reason} (exit code {code})" if code is not None else reason


def _waits(containers: list[dict[str, Any]]) -> str:
    for one in containers:
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("reason", "") not in STARTS:
            return f"container {one['name']}: {waiting['reason']}: {_words(waiting)}"
    return ""


def _unschedulable(conditions: dict[str, dict[str, Any]]) -> str:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return _words(scheduled) or "no node takes it"
    return ""


def _words(said: dict[str, Any]) -> str:
    return str(said.get("message") or "").strip()[:WORDS_MOST]
