"""What holds for every request: an id, who may ask, how many at once, and an answer for every error.

Where REST asks nobody who they are, a web page that a developer happens to visit must not reach it
through the browser; where it does, the browser may know the password. Browsers say where a request comes from (`Origin`), and an attacker's name that resolves to
this machine (DNS rebinding) stands in `Host`: both are checked, see docs/rest.md.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from http import HTTPStatus
from urllib.parse import urlsplit

from sanfran_common.telemetry.logs import get_logger
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sanfran_api.metrics import REQUESTS
from sanfran_api.names import shorten

log = get_logger("rest")

MAX_RUNNING = 512
"""Requests at the same time; log followers count too."""
_REQUEST_ID = re.compile(r"[!-~]{1,128}")


class Guard:
    """Wraps the application.

    Args:
        hosts: names that `Host` may have besides localhost and IP addresses; None: any.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._hosts = hosts
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "lifespan and websockets are off"
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                out = MutableHeaders(scope=message)
                out["x-request-id"] = request_id
                out["x-content-type-options"] = "nosniff"
                out["x-frame-options"] = "DENY"
                if "cache-control" not in out:
                    out["cache-control"] = "no-store"
            await send(message)

        self._running += 1
        try:
            refusal = self._refuse(headers, request_id)
            await (refusal or self._app)(scope, receive, answer)
        except ClientDisconnect:
            pass  # nobody is left to be answered
        except Exception as error:  # the outermost frame of a request
            log.error("request failed", request_id=request_id, path=scope["path"], exc_info=error)
            if not status:
                failed = error_answer(500, "internal", "something failed in here", request_id)
                await failed(scope, receive, answer)
        finally:
            self._running -= 1
            REQUESTS.labels(scope["method"] if status not in (0, 405) else "", status).inc()

    def _refuse(self, headers: Headers, request_id: str) -> JSONResponse | None:
        host = headers.get("host", "")
        if self._hosts is not None and not self._knows(_host_name(host), self._hosts):
            return error_answer(
                403,
                "forbidden_host",
                f"Host: {shorten(host)!r} is not a name of this service; call it by IP address or "
                "as localhost, or add the name with --allowed-hosts",
                request_id,
            )
        origin = headers.get("origin")
        if origin is not None and not self._is_own(origin, host):
            return error_answer(
                403,
                "forbidden_origin",
                f"Origin: {shorten(origin)!r} may not use this service from a browser",
                request_id,
            )
        if self._running > MAX_RUNNING:
            refusal = error_answer(503, "busy", "too many requests at once", request_id)
            refusal.headers["retry-after"] = "1"
            return refusal
        return None

    def _knows(self, name: str, hosts: frozenset[str]) -> bool:
        if name == "localhost" or name.endswith(".localhost") or name in hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _is_own(self, origin: str, host: str) -> bool:
        scheme, _, rest = origin.lower().partition("://")
        return scheme in ("http", "https") and rest == host.lower()


def _host_name(host: str) -> str:
    """The name in a Host header, without port and brackets; empty when it is no such thing."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def error_answer(
    status: int, code: str, message: str, request_id: str, *, field: str = ""
) -> JSONResponse:
    """The one form that every error answer has."""
    error = error_detail(code, message, request_id, field=field)
    return JSONResponse({"error": error}, status_code=status)


def error_detail(code: str, message: str, request_id: str, *, field: str = "") -> dict[str, str]:
    """What an error answer says."""
    error = {"code": code, "message": message, "request_id": request_id}
    if field:
        error["field"] = field
    return error


def code_of(status: int) -> str:
    """A stable code for a status that has none of its own, such as `method_not_allowed`."""
    return HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")
