"""What goes wrong, named by whose fault it is. Turned into HTTP and gRPC at the edges only."""

from __future__ import annotations

from grpclib import Status


class ApiError(Exception):
    """An answer that is not a success.

    Args:
        message: for people; names the value that is wrong and what would work.
        field: the part of the request that it is about, such as `settings.timeout`.
    """

    code = "internal"
    http_status = 500
    grpc_status = Status.INTERNAL

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.message = _as_text(message)
        self.field = _as_text(field)


def _as_text(text: str) -> str:
    """What JSON may quote and no answer can hold, half of a surrogate pair, as an escape."""
    return text.encode(errors="backslashreplace").decode()


class BadRequest(ApiError):
    """The request cannot be carried out as it is, now or later."""

    code = "bad_request"
    http_status = 400
    grpc_status = Status.INVALID_ARGUMENT


class TooLarge(BadRequest):
    """Something is over its limit."""

    code = "too_large"
    http_status = 413


class SlowUpload(BadRequest):
    """The client stopped sending in the middle of its upload."""

    code = "upload_timeout"
    http_status = 408
    grpc_status = Status.DEADLINE_EXCEEDED


class NotFound(ApiError):
    """There is no such function, version or bundle."""

    code = "not_found"
    http_status = 404
    grpc_status = Status.NOT_FOUND


class AlreadyExists(ApiError):
    """The name is taken."""

    code = "already_exists"
    http_status = 409
    grpc_status = Status.ALREADY_EXISTS


def name_taken(name: str) -> AlreadyExists:
    """The error for a function that is there already."""
    return AlreadyExists(
        f"name: there is a function {name!r} already; update it, or choose another name",
        field="name",
    )


class VersionChanged(ApiError):
    """The function is not at the version that the change was meant for."""

    code = "version_changed"
    http_status = 412
    grpc_status = Status.FAILED_PRECONDITION


def check_version(name: str, version: int, wanted: int | None) -> None:
    """Refuses a change that was made for another version.

    Args:
        version: that the function has.
        wanted: that the change was made for; None: any.

    Raises:
        VersionChanged: they differ.
    """
    if wanted is not None and version != wanted:
        raise VersionChanged(
            f"{name} is at version {version}, and this change was made for version {wanted}; look "
            "at it again, then change what is there now"
        )


class BuildFailed(ApiError):
    """The upload's dependencies could not be installed. What was there before stays."""

    code = "build_failed"
    http_status = 422
    grpc_status = Status.FAILED_PRECONDITION


class RegistryFailed(BuildFailed):
    """They could not, because the registry that has them cannot be reached or fails itself."""

    http_status = 502
    grpc_status = Status.UNAVAILABLE


class StoreFull(ApiError):
    """The disk, or the store's own limit, leaves no room. Nothing was stored."""

    code = "store_full"
    http_status = 507
    grpc_status = Status.RESOURCE_EXHAUSTED


class StoreFailed(ApiError):
    """The store could not be read or written, and not for want of room."""

    code = "store_failed"


class Busy(ApiError):
    """A bounded queue is full; the same request may succeed a little later."""

    code = "busy"
    http_status = 503
    grpc_status = Status.UNAVAILABLE


class NoController(ApiError):
    """What only controllers know was asked for, and none answers."""

    code = "no_controller"
    http_status = 503
    grpc_status = Status.UNAVAILABLE
