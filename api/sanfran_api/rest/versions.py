"""Routes about the versions of a function: what there was, and back to it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from sanfran_api.access.privileges import Privilege
from sanfran_api.functions import Functions
from sanfran_api.rest import models
from sanfran_api.rest.admission import caller_of
from sanfran_api.rest.conditions import IfMatch, etag_of, version_in
from sanfran_api.rest.functions import APPLIED, yes
from sanfran_api.rest.openapi import PREFIX, errors


def version_routes(functions: Functions, *, public_url: str) -> APIRouter:
    """`/api/v1/functions/{name}/versions` and `/rollback`.

    Args:
        public_url: of the router.
    """
    routes = APIRouter(prefix=f"{PREFIX}/functions/{{name}}", tags=["functions"])

    @routes.get("/versions", operation_id="listVersions", responses=errors(404))
    async def list_versions(name: str, request: Request) -> models.Versions:
        """The versions that are kept, the newest first: what each was, who made it and when."""
        caller = caller_of(request)
        found = functions.versions(name)
        return models.Versions(
            versions=[models.Function(**models.fields_of(one, public_url, caller)) for one in found]
        )

    @routes.post(
        "/rollback", operation_id="rollbackFunction", responses=errors(400, 404, 412, 503, 507)
    )
    async def roll_back(
        name: str,
        request: Request,
        response: Response,
        version: Annotated[
            int | None, Query(ge=1, le=2**63 - 1, description="Absent: the one before the current.")
        ] = None,
        if_match: IfMatch = None,
    ) -> models.Deployed:
        """Makes a new version with the code, the settings and the secrets of an older one."""
        caller = caller_of(request)
        for needed in (Privilege.UPDATE, Privilege.UPDATE_SETTINGS):
            caller.check(needed, name)
        made = await functions.roll_back(
            name, version, of_version=version_in(if_match), by=caller.name
        )
        response.headers[APPLIED] = yes(made.applied)
        response.headers["etag"] = etag_of(made.version.version)
        shown = models.fields_of(made.version, public_url, caller)
        return models.Deployed(**shown, applied=made.applied)

    return routes
