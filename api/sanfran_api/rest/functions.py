"""Routes that make, change, show and remove functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import JSONResponse

from sanfran_api.access.privileges import Privilege
from sanfran_api.controllers import Controllers
from sanfran_api.errors import BadRequest
from sanfran_api.functions import Code, Deployed, Functions
from sanfran_api.intake import Intake
from sanfran_api.labels import parse_selector
from sanfran_api.names import shorten
from sanfran_api.rest import models
from sanfran_api.rest.admission import caller_of, note_change
from sanfran_api.rest.building import BuildAnswer, Say, ended_with_client, wants_lines
from sanfran_api.rest.conditions import (
    ETAG,
    NOT_MODIFIED,
    IfMatch,
    IfNoneMatch,
    etag_of,
    is_known,
    version_in,
)
from sanfran_api.rest.forms import Form, received
from sanfran_api.rest.openapi import BUILD_LOG, PREFIX, errors, form_body
from sanfran_api.rest.pages import Page
from sanfran_api.settings import parse_settings

PAGE = 100
MAX_PAGE = 1000
APPLIED = "SanFran-Applied"
"""Header of every answer to a change: see `models.Deployed.applied`."""

_UPLOAD_ERRORS = (400, 408, 413, 422, 502, 503, 507)
_FIELDS = ("file", "build", "source", "settings", "dry_run")
"""Of both forms. `dry_run` is no parameter of the query: a service that does not know it yet refuses the
form, where it would pass over the parameter and do it."""
_LINK = {
    "Link": {
        "description": "The next page, as rel=next; absent on the last one.",
        "schema": {"type": "string"},
    }
}


def function_routes(
    functions: Functions, intake: Intake, controllers: Controllers, *, public_url: str
) -> APIRouter:
    """`/api/v1/functions` and `/api/v1/functions/{name}`.

    Args:
        public_url: of the router.
    """
    routes = APIRouter(prefix=f"{PREFIX}/functions", tags=["functions"])

    def deployed(
        made: Deployed, request: Request, status: int, headers: dict[str, str]
    ) -> JSONResponse:
        shown = models.fields_of(made.version, public_url, caller_of(request))
        answer = models.Deployed(**shown, applied=made.applied)
        return JSONResponse(
            answer.model_dump(mode="json"),
            status_code=status,
            headers={
                APPLIED: yes(made.applied),
                "etag": etag_of(made.version.version),
                **headers,
            },
        )

    @routes.post(
        "",
        status_code=201,
        operation_id="createFunction",
        response_model=models.Deployed,
        responses={**errors(*_UPLOAD_ERRORS, 409), **BUILD_LOG},
        openapi_extra=form_body("name", *_FIELDS, required=("name", "file")),
    )
    async def create(request: Request) -> Response:
        """Makes a function. It answers calls as soon as this has answered.

        With `Accept: application/x-ndjson` it tells what a build writes while that runs. With the field
        `dry_run` it judges everything but what is in the file, answers what would be, and makes nothing.
        """

        async def work(say: Say) -> JSONResponse:
            fields = frozenset({"name", *_FIELDS})
            async with received(request, intake, texts=fields) as form, ended_with_client(request):
                given = parse_settings(form.texts.get("settings", "{}"))
                name, caller = form.texts.get("name", ""), caller_of(request)
                dry_run = _flag(form, "dry_run", "false")
                note_change(request, name, given, code=True, dry_run=dry_run)
                if name:
                    caller.check(Privilege.CREATE, name)
                made = await functions.create(
                    name, _code(form, say), given, by=caller.name, dry_run=dry_run
                )
            location = f"{PREFIX}/functions/{made.version.name}"
            return deployed(made, request, 201, {"location": location})

        return BuildAnswer(work) if wants_lines(request) else await work(_unheard)

    @routes.put(
        "/{name}",
        operation_id="updateFunction",
        response_model=models.Deployed,
        responses={**errors(*_UPLOAD_ERRORS, 404, 412), **BUILD_LOG},
        openapi_extra=form_body(*_FIELDS),
    )
    async def update(
        name: str,
        request: Request,
        if_match: IfMatch = None,
        unless_same: Annotated[
            bool,
            Query(
                description="Answer with the current version when no setting would be different."
            ),
        ] = False,
    ) -> Response:
        """Makes a new version, of new code, changed settings, or both.

        Each setting that is given replaces the former one as a whole, `env` too; `null` brings
        back a default; the others stay. With `Accept: application/x-ndjson` it tells what a build
        writes while that runs. With the field `dry_run` it judges everything but what is in the file,
        answers what would be, and changes nothing.
        """
        functions.get(name)
        of_version = version_in(if_match)

        async def work(say: Say) -> JSONResponse:
            fields = frozenset(_FIELDS)
            async with received(request, intake, texts=fields) as form, ended_with_client(request):
                text = form.texts.get("settings")
                given = None if text is None else parse_settings(text)
                dry_run = _flag(form, "dry_run", "false")
                code, caller = _code(form, say), caller_of(request)
                note_change(request, name, given, code=code is not None, dry_run=dry_run)
                if code is not None:
                    caller.check(Privilege.UPDATE, name)
                if given is not None:
                    caller.check(Privilege.UPDATE_SETTINGS, name)
                made = await functions.update(
                    name,
                    code,
                    given,
                    of_version=of_version,
                    unless_same=unless_same,
                    by=caller.name,
                    dry_run=dry_run,
                )
            return deployed(made, request, 200, {})

        return BuildAnswer(work) if wants_lines(request) else await work(_unheard)

    @routes.get(
        "",
        operation_id="listFunctions",
        response_model=models.Functions,
        responses={**errors(400), 200: {"headers": _LINK}},
    )
    async def list_functions(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Functions at most.")] = PAGE,
        after: Annotated[str, Query(description="Names greater than this.")] = "",
        status: Annotated[bool, Query(description="Say what becomes of them, too.")] = False,
        label: Annotated[
            list[str] | None,
            Query(description="Only those that have it, as key=value or key; all, if repeated."),
        ] = None,
    ) -> Response:
        """Functions by name, page by page. A page may be short, or empty, and not the last."""
        caller = caller_of(request)
        page = await functions.page(
            after,
            limit,
            parse_selector(label or ()),
            lambda name: caller.may(Privilege.LIST, name),
        )
        headers = {}
        if page.next_after:
            rest = request.url.include_query_params(after=page.next_after)
            headers["link"] = f'<{rest.path}?{rest.query}>; rel="next"'
        names = [one.name for one, _ in page.functions]
        told = await controllers.statuses(names) if status and names else {}

        def fields() -> Iterator[dict[str, Any]]:
            for one, _ in page.functions:
                shown = models.fields_of(one, public_url, caller)
                known = told.get(one.name)
                yield {**shown, "status": models.status_of(known)} if known is not None else shown

        return await Page.of(fields(), page.next_after, headers)

    @routes.get(
        "/{name}",
        operation_id="getFunction",
        response_model=models.FunctionWithStatus,
        responses={**errors(404), **NOT_MODIFIED, 200: {"headers": ETAG}},
        response_model_exclude_none=True,
    )
    async def get_function(
        name: str, request: Request, response: Response, if_none_match: IfNoneMatch = None
    ) -> models.FunctionWithStatus | Response:
        """A function, its current version, and what becomes of it."""
        function = functions.get(name)
        etag = etag_of(function.version)
        if is_known(function.version, if_none_match):
            return Response(status_code=304, headers={"etag": etag})
        response.headers["etag"] = etag
        status = await controllers.status(name)
        return models.FunctionWithStatus(
            **models.fields_of(function, public_url, caller_of(request)),
            status=models.status_of(status) if status is not None else None,
        )

    @routes.delete(
        "/{name}",
        status_code=204,
        operation_id="deleteFunction",
        responses=errors(400, 404, 412, 507),
    )
    async def delete(name: str, if_match: IfMatch = None) -> Response:
        """Removes a function. Calls get 404 from now on; those that run finish."""
        applied = await functions.delete(name, of_version=version_in(if_match))
        return Response(status_code=204, headers={APPLIED: yes(applied)})

    return routes


def _code(form: Form, say: Say) -> Code | None:
    """The code in a form, with how it is to be taken."""
    build = _flag(form, "build", "true")
    if form.upload is None:
        return None
    source = form.texts.get("source", "")
    return Code(form.upload, form.file_name, source, build, say)


def _flag(form: Form, field: str, default: str) -> bool:
    text = form.texts.get(field, default)
    if text not in ("true", "false"):
        raise BadRequest(
            f"{field}: {shorten(text)!r} is not accepted; true and false work", field=field
        )
    return text == "true"


def _unheard(line: str) -> None:
    """Nobody asks to be told of a build."""


def yes(value: bool) -> str:
    return "true" if value else "false"
