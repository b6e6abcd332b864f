"""What each operation of REST and gRPC needs. What is not here, nobody may.

A test walks every route and method, and docs/auth.md shows this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from sanfran_api.access.privileges import Privilege


class Needs(Enum):
    """What an operation needs beside, or instead of, a privilege."""

    NOBODY = auto()
    """Anybody may, without saying who they are."""
    LOGIN = auto()
    """Anybody who has proved who they are."""
    PRIVILEGE = auto()
    """The privilege on the function that the path or the message names."""
    SOMEWHERE = auto()
    """The privilege on any function; what is done, or shown, is checked one by one."""
    EVERYTHING = auto()
    """Every privilege on every function."""
    SERVICE = auto()
    """To be one of our own services."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Args:
        privileges: one of them is enough to begin with.
        changes: stands in the audit log whoever does it, not only when it is refused.
        services: our own services may, too.
    """

    needs: Needs
    privileges: tuple[Privilege, ...] = ()
    changes: bool = False
    services: bool = False


def _on(*privileges: Privilege, changes: bool = False, services: bool = False) -> Operation:
    return Operation(Needs.PRIVILEGE, privileges, changes, services)


def _somewhere(*privileges: Privilege, changes: bool = False, services: bool = False) -> Operation:
    return Operation(Needs.SOMEWHERE, privileges, changes, services)


_SERVICE = Operation(Needs.SERVICE, services=True)
_UPDATES = (Privilege.UPDATE, Privilege.UPDATE_SETTINGS)

REST: Mapping[str, Operation] = {
    "docs": Operation(Needs.NOBODY),
    "getService": Operation(Needs.LOGIN),
    "getCaller": Operation(Needs.LOGIN),
    "getPool": _somewhere(Privilege.LIST),
    "createFunction": _somewhere(Privilege.CREATE, changes=True),
    "listFunctions": _somewhere(Privilege.LIST),
    "getFunction": _on(Privilege.LIST),
    "updateFunction": _on(*_UPDATES, changes=True),
    "deleteFunction": _on(Privilege.DELETE, changes=True),
    "listVersions": _on(Privilege.LIST),
    "rollbackFunction": _on(*_UPDATES, changes=True),
    "getLogs": _on(Privilege.LOGS),
    "rotateSecrets": Operation(Needs.EVERYTHING, changes=True),
    "backUp": Operation(Needs.EVERYTHING, changes=True),
    "restore": Operation(Needs.EVERYTHING, changes=True),
}
"""By `operation_id`."""

RPC: Mapping[str, Operation] = {
    "CreateFunction": _somewhere(Privilege.CREATE, changes=True, services=True),
    "UpdateFunction": _somewhere(*_UPDATES, changes=True, services=True),
    "GetFunction": _somewhere(Privilege.LIST, services=True),
    "ListFunctions": _somewhere(Privilege.LIST, services=True),
    "DeleteFunction": _somewhere(Privilege.DELETE, changes=True, services=True),
    "WatchFunctions": _SERVICE,
    "ResolveFunction": _SERVICE,
    "FetchBundle": _SERVICE,
    "Authorize": _SERVICE,
}
"""By the method of `Api`. A message is read after the call began, so its function is checked then."""

FOR_USERS = frozenset(name for name, one in RPC.items() if one.needs is not Needs.SERVICE)
"""Methods of gRPC that people may call."""
