"""What goes wrong for the user of the command line. Light: every command imports this."""

from __future__ import annotations


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
    """

    def __init__(
        self, status: int, code: str, message: str, *, field: str = "", request_id: str = ""
    ) -> None:
        named = f"{field}: {message}" if field and field not in message else message
        if status >= 500 and request_id:
            named += f" (request {request_id})"
        super().__init__(named)
        self.status = status
        self.code = code
        self.field = field
        self.request_id = request_id


class ApiUnreachable(Refused):
    """Nothing that speaks SanFran's API answers at the address."""

    def __init__(self, api: str, why: str) -> None:
        super().__init__(
            f"no SanFran API at {api} ({why}).\n"
            "Start an engine here with `sanfran up`, or name another one with --api URL or SANFRAN_API."
        )
