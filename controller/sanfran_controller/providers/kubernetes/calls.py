"""Every call that the controller makes to the API server, by kind. The chart's Role grants these and no others.

All are in the functions' namespace.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of object: its API group, its name in paths, and the path before the namespace."""

    group: str
    plural: str
    path: str


PODS = Kind("", "pods", "/api/v1")
EVENTS = Kind("", "events", "/api/v1")
LEASES = Kind("coordination.k8s.io", "leases", "/apis/coordination.k8s.io/v1")

CALLS = MappingProxyType(
    {
        PODS: frozenset({"create", "delete", "get", "list", "patch", "watch"}),
        LEASES: frozenset({"create", "delete", "get", "list", "update", "watch"}),
        EVENTS: frozenset({"create", "patch"}),
    }
)
"""Verbs as RBAC names them."""
