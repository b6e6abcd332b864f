"""Translates the sidecar's errors for gRPC; the only place that knows both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from grpclib import GRPCError, Status

from sanfran_sidecar.errors import (
    BadRequest,
    BundleUnavailable,
    HostFull,
    NameTaken,
    NoAnswer,
    NotOwner,
    PodGone,
    SidecarError,
    Stopping,
    WrongState,
)

STATUS: dict[type[SidecarError], Status] = {
    BadRequest: Status.INVALID_ARGUMENT,
    WrongState: Status.FAILED_PRECONDITION,
    NameTaken: Status.ALREADY_EXISTS,
    NotOwner: Status.FAILED_PRECONDITION,
    HostFull: Status.RESOURCE_EXHAUSTED,
    Stopping: Status.UNAVAILABLE,
    BundleUnavailable: Status.UNAVAILABLE,
    NoAnswer: Status.DEADLINE_EXCEEDED,
    PodGone: Status.ABORTED,
}


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the sidecar leave as `GRPCError`; one without a row is a mistake: INTERNAL."""
    try:
        yield
    except SidecarError as error:
        raise GRPCError(STATUS.get(type(error), Status.INTERNAL), str(error)) from error
