"""REST: the routes of all resources, with one form of errors and a description of them all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import version as installed_version

from fastapi import Depends, FastAPI, Request
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware

from sanfran_api.controllers import Controllers
from sanfran_api.functions import Functions
from sanfran_api.intake import Intake
from sanfran_api.rest.backup import backup_routes
from sanfran_api.rest.errors import refuse_unknown_query, shape_errors
from sanfran_api.rest.functions import function_routes
from sanfran_api.rest.logs import log_routes
from sanfran_api.rest.openapi import PREFIX, add_docs, describe, errors
from sanfran_api.rest.secrets import secret_routes
from sanfran_api.rest.service import service_routes
from sanfran_api.rest.versions import version_routes
from sanfran_api.store.backups import Backups
from sanfran_api.store.store import Store

AS_THEY_ARE = (
    *DEFAULT_EXCLUDED_CONTENT_TYPES,
    # Streams of lines, each of which is to arrive when it is written.
    "application/x-ndjson",
    "text/plain",
    # Compressed already, or not worth it.
    "application/octet-stream",
    "application/zstd",
    "application/x-tar",
)
"""Types of answers that are not compressed."""


def build_app(
    functions: Functions,
    intake: Intake,
    controllers: Controllers,
    store: Store,
    backups: Backups,
    *,
    public_url: str,
    limits: dict[str, int],
    admit: Callable[[Request], Awaitable[None]],
) -> FastAPI:
    """The application, without what `guard` adds.

    Args:
        public_url: of the router.
        limits: shown to clients.
        admit: raises for those who may not; see `admission`.
    """
    app = FastAPI(
        title="SanFran",
        summary="Create, update, look at and delete functions.",
        version=installed_version("sanfran"),
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=errors(401, 403, 429),
        dependencies=[Depends(admit), Depends(refuse_unknown_query)],
    )
    app.include_router(service_routes(controllers, public_url=public_url, limits=limits))
    app.include_router(function_routes(functions, intake, controllers, public_url=public_url))
    app.include_router(version_routes(functions, public_url=public_url))
    app.include_router(log_routes(functions, controllers))
    app.include_router(secret_routes(store))
    app.include_router(backup_routes(backups, functions, idle_timeout=intake.idle_timeout))
    add_docs(app)
    app.add_middleware(
        GZipMiddleware, minimum_size=1024, compresslevel=5, exclude_content_types=AS_THEY_ARE
    )
    shape_errors(app)
    describe(app)
    return app
