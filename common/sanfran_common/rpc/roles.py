"""Who may call what, by certificate.

A service's certificate carries its role as one DNS name, `<role>.sanfran.internal`, wherever the service
runs: addresses of pods come and go, roles stay. Any certificate of the release's CA with the right role is
as good as another.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

DOMAIN = "sanfran.internal"


class Role(StrEnum):
    """What a process is to the others. The pod host speaks for sidecars."""

    ROUTER = "router"
    CONTROLLER = "controller"
    API = "api"
    SIDECAR = "sidecar"


def host_name(role: Role) -> str:
    """The name that the role's certificates carry."""
    return f"{role}.{DOMAIN}"


def role_in(certificate: Mapping[str, Any]) -> Role | None:
    """The role that a certificate names; None when it names none, or several.

    Args:
        certificate: as `ssl.SSLSocket.getpeercert` gives it.
    """
    names = [name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"]
    ours = {name.lower() for name in names if name.lower().endswith(f".{DOMAIN}")}
    known = {host_name(role): role for role in Role}
    return known.get(ours.pop()) if len(ours) == 1 else None


ANYBODY = frozenset(Role) | {None}
"""Also who has no certificate: for methods that say nothing, or that ask for other proof themselves."""

Callers = frozenset[Role | None]

_ROUTER: Callers = frozenset({Role.ROUTER})
_CONTROLLER: Callers = frozenset({Role.CONTROLLER})
_API: Callers = frozenset({Role.API})
_NOBODY: Callers = frozenset()

CALLERS: Mapping[str, Callers] = {
    "/grpc.health.v1.Health/Check": ANYBODY,
    "/grpc.health.v1.Health/Watch": ANYBODY,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": ANYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ANYBODY,
    "/sanfran.v1.Api/CreateFunction": _NOBODY,
    "/sanfran.v1.Api/UpdateFunction": _NOBODY,
    "/sanfran.v1.Api/GetFunction": _CONTROLLER,
    "/sanfran.v1.Api/ListFunctions": _CONTROLLER,
    "/sanfran.v1.Api/DeleteFunction": _NOBODY,
    "/sanfran.v1.Api/WatchFunctions": _CONTROLLER,
    "/sanfran.v1.Api/ResolveFunction": _CONTROLLER,
    "/sanfran.v1.Api/FetchBundle": frozenset({Role.CONTROLLER, Role.SIDECAR}),
    "/sanfran.v1.Api/Authorize": _ROUTER,
    "/sanfran.v1.Controller/Activate": frozenset({Role.ROUTER, Role.CONTROLLER}),
    "/sanfran.v1.Controller/WatchRoutes": _ROUTER,
    "/sanfran.v1.Controller/ReportLoad": _ROUTER,
    "/sanfran.v1.Controller/GetStatus": _API,
    "/sanfran.v1.Controller/GetStatuses": _API,
    "/sanfran.v1.Controller/GetPool": _API,
    "/sanfran.v1.Controller/StreamLogs": _API,
    "/sanfran.v1.Sidecar/Activate": _CONTROLLER,
    "/sanfran.v1.Sidecar/Drain": _CONTROLLER,
    "/sanfran.v1.Sidecar/Recycle": _CONTROLLER,
    "/sanfran.v1.Sidecar/GetState": _CONTROLLER,
    "/sanfran.v1.Sidecar/WatchState": _CONTROLLER,
    "/sanfran.v1.Sidecar/StreamLogs": _CONTROLLER,
    "/sanfran.v1.PodHost/CreatePod": _CONTROLLER,
    "/sanfran.v1.PodHost/DeletePod": _CONTROLLER,
    "/sanfran.v1.PodHost/WatchPods": _CONTROLLER,
    "/sanfran.v1.PodHost/RenewLease": _CONTROLLER,
    "/sanfran.v1.PodHost/AdoptPod": _CONTROLLER,
}
"""Each method's callers where the connection is TLS. What is not in here may be called by nobody."""


def refusal(method: str, caller: Role | None) -> str | None:
    """Why this caller may not call this method; None when it may.

    Args:
        method: its path, such as `/sanfran.v1.Api/GetFunction`.
        caller: the role by its certificate; None: no certificate, or one that names no role.
    """
    allowed = CALLERS.get(method, _NOBODY)
    if caller in allowed:
        return None
    who = f"a {caller}" if caller else f"a caller without a certificate for <role>.{DOMAIN}"
    whose = " or ".join(sorted(str(role) for role in allowed)) or "nobody"
    return f"{method}: may not be called by {who}; it is for {whose}"
