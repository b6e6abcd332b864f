"""Why somebody is not let in."""

from __future__ import annotations

import math

from grpclib import Status

from sanfran_api.errors import ApiError


class Unauthenticated(ApiError):
    """No credentials, or wrong ones.

    Args:
        challenges: values of `WWW-Authenticate`, one for each way that works here.
    """

    code = "unauthenticated"
    http_status = 401
    grpc_status = Status.UNAUTHENTICATED

    def __init__(self, message: str, challenges: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.challenges = challenges


class Forbidden(ApiError):
    """Known, but without the privilege."""

    code = "forbidden"
    http_status = 403
    grpc_status = Status.PERMISSION_DENIED


class TooManyFailures(ApiError):
    """Too many wrong credentials; nothing was looked at.

    Args:
        retry_after: seconds until the next attempt is looked at.
    """

    code = "too_many_failures"
    http_status = 429
    grpc_status = Status.RESOURCE_EXHAUSTED

    def __init__(self, retry_after: float) -> None:
        seconds = math.ceil(retry_after)
        super().__init__(
            f"too many wrong credentials; wait {seconds} s, then try again with the right ones"
        )
        self.retry_after = retry_after


class KeysMissing(ApiError):
    """The keys that would check a token have not been fetched yet."""

    code = "keys_missing"
    http_status = 503
    grpc_status = Status.UNAVAILABLE
