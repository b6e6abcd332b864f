"""Routes about the service itself and the engine as a whole."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Annotated

from fastapi import APIRouter, Query, Request

from sanfran_api.access.privileges import Privilege
from sanfran_api.controllers import Controllers
from sanfran_api.rest import models
from sanfran_api.rest.admission import caller_of
from sanfran_api.rest.openapi import PREFIX, errors
from sanfran_api.settings import Settings


def service_routes(
    controllers: Controllers, *, public_url: str, limits: dict[str, int]
) -> APIRouter:
    """`GET /api/v1` and what shows the engine.

    Args:
        public_url: of the router.
        limits: shown to clients.
    """
    routes = APIRouter(prefix=PREFIX, tags=["service"])
    release = installed_version("sanfran")

    @routes.get("", operation_id="getService")
    @routes.get("/", include_in_schema=False, name="getService")
    async def get_service() -> models.Service:
        """What this service is."""
        return models.Service(
            version=release, public_url=public_url, limits=limits, defaults=Settings()
        )

    @routes.get("/me", operation_id="getCaller")
    async def get_caller(request: Request) -> models.Caller:
        """Who you are here, and what you may do."""
        caller = caller_of(request)
        return models.Caller(
            user=caller.name,
            groups=sorted(caller.groups),
            privileges=[one for one in Privilege if caller.may_somewhere(one)],
        )

    @routes.get("/pool", operation_id="getPool", responses=errors(400, 503))
    async def get_pool(
        request: Request,
        decisions: Annotated[
            int, Query(ge=0, le=200, description="The latest of each controller, at most.")
        ] = 20,
    ) -> models.Pools:
        """The pool of each controller, and what it decided lately and why."""
        told = await controllers.pools(decisions)
        caller = caller_of(request)
        return models.Pools(
            controllers=[
                models.pool_of(at, pool, caller) for at, pool in told.items() if pool is not None
            ],
            silent=[at for at, pool in told.items() if pool is None],
        )

    return routes
