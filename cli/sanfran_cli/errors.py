"""What goes wrong for the user of the command line. Light: every command imports this."""

from __future__ import annotations

import json
from collections.abc import Mapping


class Refused(Exception):
    """Something could not be done; the text says why and what would work. Exit code 1."""


class ApiRefused(Refused):
    """The api service answered with an error.

    Args:
        status: the HTTP status.
        code: stable, for programs, such as `not_found`.
        message: for people; names the value and what would work.
        field: the setting that is wrong, if it is about one.
        request_id: finds the request in the service's logs.
        retry_after: seconds after which the same may work; 0: the service does not say.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str = "",
        request_id: str = "",
        retry_after: float = 0.0,
    ) -> None:
        named = f"{field}: {message}" if field and field not in message else message
        if status >= 500 and request_id:
            named += f" (request {request_id})"
        super().__init__(named)
        self.status = status
        self.code = code
        self.field = field
        self.request_id = request_id
        self.retry_after = retry_after


class BadRequest(ApiRefused):
    """The request cannot be carried out as it is: 400, 413, 415, 422."""


class Unauthenticated(ApiRefused):
    """401: no credentials, or wrong ones."""


class Forbidden(ApiRefused):
    """403: known, but without the privilege."""


class NotFound(ApiRefused):
    """404: there is no such function, version or build."""


class AlreadyExists(ApiRefused):
    """409: the name is taken."""


class VersionChanged(ApiRefused):
    """412: the function is not at the version that the change was meant for."""


class BuildFailed(ApiRefused):
    """422, 502: the dependencies of the code could not be installed; the text has npm's reason."""


class TooManyRequests(ApiRefused):
    """429: too many failures to log in; `retry_after` says how long to wait."""


class Unavailable(ApiRefused):
    """503: busy, stopping, or nobody there who knows; the same may work a little later."""


_KINDS: Mapping[int, type[ApiRefused]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: AlreadyExists,
    412: VersionChanged,
    413: BadRequest,
    415: BadRequest,
    422: BadRequest,
    429: TooManyRequests,
    503: Unavailable,
}


class ApiUnreachable(Refused):
    """Nothing that speaks SanFran's API answers at the address."""

    def __init__(self, api: str, why: str) -> None:
        super().__init__(
            f"no SanFran API at {api} ({why}).\n"
            "Start an engine here with `sanfran up`, or name another one with --server or SANFRAN_SERVER."
        )


class ConnectionBroken(ApiUnreachable):
    """The connection ended before the answer did. A change that was asked for may have been made, or not."""

    def __init__(self, api: str, why: str, *, changes: bool) -> None:
        then = "Look whether it was done, then try again." if changes else "Try again."
        text = f"the connection to {api} broke before the answer was complete ({why}).\n{then}"
        Refused.__init__(self, text)


def refusal(api: str, status: int, headers: Mapping[str, str], body: bytes) -> Refused:
    """The exception for an error answer.

    Args:
        api: the service's URL.
        headers: names in lower case.
    """
    try:
        error = json.loads(body)["error"]
        message = error["message"]
        if status == 401 and message.startswith("no credentials"):
            message += f".\nLog in with `sanfran login --server {api}`"
        kind = BuildFailed if error["code"] == "build_failed" else _KINDS.get(status, ApiRefused)
        return kind(
            status,
            error["code"],
            message,
            field=error.get("field") or "",
            request_id=error.get("request_id") or "",
            retry_after=_seconds(headers.get("retry-after", "")),
        )
    except (ValueError, KeyError, TypeError):
        return ApiUnreachable(api, f"it answered HTTP {status}, not as SanFran's API does")


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else 0.0
