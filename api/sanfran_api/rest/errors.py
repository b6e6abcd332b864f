"""Errors of the service, of Starlette and of FastAPI, as answers of one form."""

from __future__ import annotations

import math
import re

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from sanfran_api.access.errors import KeysMissing, TooManyFailures, Unauthenticated
from sanfran_api.errors import ApiError, BadRequest, Busy
from sanfran_api.names import shorten
from sanfran_api.rest.guard import code_of, error_answer
from sanfran_api.rest.openapi import PREFIX


def shape_errors(app: FastAPI) -> None:
    """Every exception of a route becomes an answer of the one form."""

    @app.exception_handler(ApiError)
    async def on_api_error(request: Request, error: ApiError) -> JSONResponse:
        answer = error_answer(
            error.http_status,
            error.code,
            error.message,
            request.state.request_id,
            field=error.field,
        )
        request.state.error_code = error.code
        if isinstance(error, Busy | KeysMissing):
            answer.headers["retry-after"] = "1"
        elif isinstance(error, TooManyFailures):
            answer.headers["retry-after"] = str(math.ceil(error.retry_after))
        elif isinstance(error, Unauthenticated):
            for challenge in error.challenges:
                answer.headers.append("www-authenticate", challenge)
        return answer

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {shorten(request.url.path)}: {error.detail}"
        headers = {name.lower(): value for name, value in (error.headers or {}).items()}
        if error.status_code == 404:
            message += f"; {PREFIX}/docs shows what there is"
        elif error.status_code == 405:
            # Starlette names those of one route, and each method of a path is one.
            headers["allow"] = ", ".join(_methods(app, request.url.path)) or headers["allow"]
            message += f"; {headers['allow']} work"
        answer = error_answer(
            error.status_code, code_of(error.status_code), message, request.state.request_id
        )
        answer.headers.update(headers)
        return answer

    @app.exception_handler(Exception)
    async def on_failure(request: Request, error: Exception) -> JSONResponse:
        # `Guard` logs it: Starlette raises it again once this is answered.
        return error_answer(500, "internal", "something failed in here", request.state.request_id)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = str(first["loc"][-1])
        message = f"{field}: {shorten(repr(first.get('input')))} is not accepted; {first['msg']}"
        return error_answer(
            400, "bad_request", message, request.state.request_id, field=_tidy(field)
        )


async def refuse_unknown_query(request: Request) -> None:
    """A dependency of all routes. What nothing reads was meant to say something, as in `?versio=3`.

    Raises:
        BadRequest: names it, and what there is.
    """
    known = [one.alias for one in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            there_is = f"there is {', '.join(known)}" if known else "nothing is asked for here"
            raise BadRequest(f"{shorten(name)}: unknown; {there_is}", field=_tidy(name))


def _methods(app: FastAPI, path: str) -> list[str]:
    """What the description has for a path."""
    for template, operations in app.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path):
            return sorted(method.upper() for method in operations)
    return []


def _tidy(field: str) -> str:
    return re.sub(r"[^\w.-]", "", field)[:80]
