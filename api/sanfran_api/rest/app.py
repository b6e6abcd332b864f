"""The routes of REST. Each calls the service and shapes its answer; errors are shaped here too."""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse
from starlette.staticfiles import StaticFiles

from sanfran_api.controllers import Controllers
from sanfran_api.errors import ApiError, BadRequest, Busy
from sanfran_api.functions import Deployed, Functions
from sanfran_api.intake import Intake
from sanfran_api.names import shorten
from sanfran_api.rest import models
from sanfran_api.rest.forms import received
from sanfran_api.rest.guard import code_of, error_answer
from sanfran_api.rest.logs import LogAnswer, LogFormat, choose_format
from sanfran_api.settings import parse_settings

PREFIX = "/api/v1"
STATIC = Path(__file__).parent.parent / "static"
"""Swagger UI's files, which the build puts there."""
PAGE = 100
MAX_PAGE = 1000
APPLIED = "SanFran-Applied"
"""Header of every answer to a change: see `models.Deployed.applied`."""

_FORM: dict[str, Any] = {
    "name": {"type": "string", "description": "A DNS-1123 label: a-z, 0-9 and -, at most 63."},
    "file": {
        "type": "string",
        "format": "binary",
        "description": "A module (*.js *.mjs *.cjs *.ts *.mts *.cts), or a folder as *.zip, *.tgz, "
        "*.tar.gz or *.tar.",
    },
    "settings": {
        "type": "string",
        "contentMediaType": "application/json",
        "description": "A JSON object; see the schema Settings.",
        "examples": ['{"timeout": 30, "env": {"GREETING": "Hello"}}'],
    },
}


def _form(*fields: str, required: tuple[str, ...] = ()) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {field: _FORM[field] for field in fields},
        "additionalProperties": False,
    }
    if required:
        schema["required"] = list(required)
    content = {"multipart/form-data": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": models.Error} for status in (*statuses, 500)}


_UPLOAD_ERRORS = (400, 408, 413, 503, 507)


def build_app(
    functions: Functions,
    intake: Intake,
    controllers: Controllers,
    *,
    public_url: str,
    limits: dict[str, int],
) -> FastAPI:
    """The application, without what `guard` adds.

    Args:
        public_url: of the router.
        limits: shown to clients.
    """
    app = FastAPI(
        title="SanFran",
        summary="Create, update, look at and delete functions.",
        version=installed_version("sanfran"),
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_errors(),
    )
    routes = APIRouter(prefix=PREFIX)

    def deployed(made: Deployed, response: Response) -> models.Deployed:
        response.headers[APPLIED] = _yes(made.applied)
        shown = models.fields_of(made.version, public_url)
        return models.Deployed(**shown, applied=made.applied)

    @routes.get("", operation_id="getService", tags=["service"])
    @routes.get("/", include_in_schema=False)
    async def get_service() -> models.Service:
        """What this service is."""
        return models.Service(version=app.version, public_url=public_url, limits=limits)

    @routes.post(
        "/functions",
        status_code=201,
        operation_id="createFunction",
        tags=["functions"],
        responses=_errors(*_UPLOAD_ERRORS, 409),
        openapi_extra=_form("name", "file", "settings", required=("name", "file")),
    )
    async def create(request: Request, response: Response) -> models.Deployed:
        """Makes a function. It answers calls as soon as this has answered."""
        async with received(request, intake, texts=frozenset({"name", "settings"})) as form:
            given = parse_settings(form.texts.get("settings", "{}"))
            made = await functions.create(
                form.texts.get("name", ""), form.upload, form.file_name, given
            )
        response.headers["location"] = f"{PREFIX}/functions/{made.version.name}"
        return deployed(made, response)

    @routes.put(
        "/functions/{name}",
        operation_id="updateFunction",
        tags=["functions"],
        responses=_errors(*_UPLOAD_ERRORS, 404, 412),
        openapi_extra=_form("file", "settings"),
    )
    async def update(
        name: str,
        request: Request,
        response: Response,
        if_match: Annotated[
            str | None, Header(description='Only if this is its version, such as "3".')
        ] = None,
    ) -> models.Deployed:
        """Makes a new version, of new code, changed settings, or both.

        Each setting that is given replaces the former one as a whole, `env` too; `null` brings
        back a default; the others stay.
        """
        functions.get(name)
        of_version = _version_in(if_match)
        async with received(request, intake, texts=frozenset({"settings"})) as form:
            text = form.texts.get("settings")
            given = None if text is None else parse_settings(text)
            made = await functions.update(
                name, form.upload, form.file_name, given, of_version=of_version
            )
        return deployed(made, response)

    @routes.get(
        "/functions",
        operation_id="listFunctions",
        tags=["functions"],
        responses=_errors(400),
        response_model_exclude_none=True,
    )
    async def list_functions(
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Functions at most.")] = PAGE,
        after: Annotated[str, Query(description="Names greater than this.")] = "",
        status: Annotated[bool, Query(description="Say what becomes of them, too.")] = False,
    ) -> models.Functions:
        """Functions by name, page by page."""
        page = await functions.page(after, limit)
        names = [one.name for one, _ in page.functions]
        told = await controllers.statuses(names) if status and names else {}
        return models.Functions(
            functions=[
                models.FunctionWithStatus(
                    **models.fields_of(one, public_url),
                    status=models.status_of(told[one.name]) if one.name in told else None,
                )
                for one, _ in page.functions
            ],
            next_after=page.next_after,
        )

    @routes.get(
        "/functions/{name}",
        operation_id="getFunction",
        tags=["functions"],
        responses=_errors(404),
        response_model_exclude_none=True,
    )
    async def get_function(name: str) -> models.FunctionWithStatus:
        """A function, its current version, and what becomes of it."""
        function = functions.get(name)
        status = await controllers.status(name)
        return models.FunctionWithStatus(
            **models.fields_of(function, public_url),
            status=models.status_of(status) if status is not None else None,
        )

    @routes.get("/pool", operation_id="getPool", tags=["service"], responses=_errors(400, 503))
    async def get_pool(
        decisions: Annotated[
            int, Query(ge=0, le=200, description="The latest of each controller, at most.")
        ] = 20,
    ) -> models.Pools:
        """The pool of each controller, and what it decided lately and why."""
        told = await controllers.pools(decisions)
        return models.Pools(
            controllers=[models.pool_of(at, pool) for at, pool in told.items() if pool is not None],
            silent=[at for at, pool in told.items() if pool is None],
        )

    @routes.delete(
        "/functions/{name}",
        status_code=204,
        operation_id="deleteFunction",
        tags=["functions"],
        responses=_errors(404, 507),
    )
    async def delete(name: str) -> Response:
        """Removes a function. Calls get 404 from now on; those that run finish."""
        applied = await functions.delete(name)
        return Response(status_code=204, headers={APPLIED: _yes(applied)})

    @routes.get(
        "/functions/{name}/logs",
        operation_id="getLogs",
        tags=["functions"],
        response_class=Response,
        responses={
            **_errors(400, 404, 503),
            200: {
                "description": "Lines, oldest first; the schema is that of one line of ndjson.",
                "content": {
                    "application/x-ndjson": {"schema": {"$ref": "#/components/schemas/LogLine"}},
                    "text/plain": {},
                },
            },
        },
    )
    async def get_logs(
        name: str,
        request: Request,
        follow: Annotated[bool, Query(description="Go on with what is written.")] = False,
        tail: Annotated[
            int, Query(ge=0, le=10_000, description="Lines of the past at most; 0: all kept.")
        ] = 0,
        format: Annotated[
            LogFormat | None, Query(description="Else text when Accept names it, else ndjson.")
        ] = None,
    ) -> Response:
        """What a function wrote, with time, level, pod and version."""
        functions.get(name)
        form = choose_format(format, request.headers.get("accept", ""))
        return LogAnswer(controllers, name, follow=follow, tail=tail, form=form)

    app.include_router(routes)
    _add_docs(app)
    _add_errors(app)
    _describe(app)
    return app


def _version_in(if_match: str | None) -> int | None:
    """The version that `If-Match` names; None for any."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = re.fullmatch(r'\s*"?([0-9]{1,18})"?\s*', if_match, re.ASCII)
    if found is None:
        raise BadRequest(
            f'If-Match: {shorten(if_match)!r} is no version; try "3", as `version` shows it',
            field="If-Match",
        )
    return int(found[1])


def _yes(value: bool) -> str:
    return "true" if value else "false"


def _describe(app: FastAPI) -> None:
    """Corrects what FastAPI says: it promises its own form of 422 wherever there are parameters,
    where this is a 400, and it does not know of answers that are streamed."""
    spec = app.openapi()
    for path in spec["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for unused in ("HTTPValidationError", "ValidationError"):
        spec["components"]["schemas"].pop(unused, None)
    spec["components"]["schemas"]["LogLine"] = models.LogLine.model_json_schema()


def _add_docs(app: FastAPI) -> None:
    """Swagger UI from our own files: a machine without internet shows it too."""
    if not STATIC.is_dir():
        return
    app.mount(f"{PREFIX}/static", StaticFiles(directory=STATIC))

    @app.get(f"{PREFIX}/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url=f"{PREFIX}/openapi.json",
            title="SanFran API",
            swagger_js_url=f"{PREFIX}/static/swagger-ui-bundle.js",
            swagger_css_url=f"{PREFIX}/static/swagger-ui.css",
            swagger_favicon_url="data:,",
        )


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def on_api_error(request: Request, error: ApiError) -> JSONResponse:
        answer = error_answer(
            error.http_status,
            error.code,
            error.message,
            request.state.request_id,
            field=error.field,
        )
        if isinstance(error, Busy):
            answer.headers["retry-after"] = "1"
        return answer

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {shorten(request.url.path)}: {error.detail}"
        answer = error_answer(
            error.status_code, code_of(error.status_code), message, request.state.request_id
        )
        answer.headers.update(error.headers or {})
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


def _tidy(field: str) -> str:
    return re.sub(r"[^\w.-]", "", field)[:80]
