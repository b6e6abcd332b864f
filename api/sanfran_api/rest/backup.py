"""Routes that give the whole store away, and take it back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from sanfran_api.functions import Functions
from sanfran_api.rest import models
from sanfran_api.rest.admission import caller_of
from sanfran_api.rest.forms import Body, content_length
from sanfran_api.rest.openapi import PREFIX, errors
from sanfran_api.store.backups import Backups

MEDIA_TYPE = "application/octet-stream"
_CONTENT = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}


def backup_routes(backups: Backups, functions: Functions, *, idle_timeout: float) -> APIRouter:
    """`/api/v1/backup` and `/api/v1/restore`.

    Args:
        idle_timeout: seconds that a client may neither send nor take anything.
    """
    routes = APIRouter(prefix=PREFIX, tags=["store"])

    @routes.get(
        "/backup",
        operation_id="backUp",
        response_class=Response,
        responses={
            **errors(503),
            200: {"description": "A backup; its end has a SHA-256 of it.", "content": _CONTENT},
        },
    )
    async def back_up() -> Response:
        """The whole store as it is now: functions, versions, code, and secrets as they are stored."""
        return _Backup(backups, idle_timeout)

    @routes.post(
        "/restore",
        operation_id="restore",
        responses=errors(400, 408, 409, 413, 503, 507),
        openapi_extra={"requestBody": {"required": True, "content": _CONTENT}},
    )
    async def restore(request: Request) -> models.Restored:
        """Puts what a backup has in the place of all that there is. Functions that differ get a new
        version; those that the backup does not have are gone. Whatever is wrong with it, nothing changes."""
        body = Body(request)
        async with body.heard_out():
            if length := content_length(request):
                backups.check_size(length)
            judged, revision = await backups.restore(
                _received(body, idle_timeout), by=caller_of(request).name
            )
        applied = await functions.applied(revision)
        return models.Restored(functions=judged.functions, applied=applied)

    return routes


class _Backup(Response):
    """Opens the backup when it is sent, so that what was opened ends with the answer."""

    def __init__(self, backups: Backups, idle_timeout: float) -> None:
        super().__init__()
        self._backups = backups
        self._idle_timeout = idle_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def patient(message: Message) -> None:
            async with asyncio.timeout(self._idle_timeout):
                await send(message)

        name = f"sanfran-{datetime.now(UTC):%Y%m%d-%H%M%S}.backup"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        async with self._backups.open() as pieces:
            answer = StreamingResponse(pieces, media_type=MEDIA_TYPE, headers=headers)
            await answer(scope, receive, patient)


async def _received(body: Body, idle_timeout: float) -> AsyncIterator[bytes]:
    while not body.ended:
        yield await body.next(idle_timeout)
