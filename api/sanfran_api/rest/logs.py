"""The route of a function's log lines, which goes on for as long as the client stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query, Request
from sanfran_proto.sanfran import v1 as pb
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from sanfran_api.controllers import Controllers
from sanfran_api.functions import Functions
from sanfran_api.rest.models import log_line
from sanfran_api.rest.openapi import PREFIX, errors

MEDIA_TYPES = {"text": "text/plain", "ndjson": "application/x-ndjson"}


class LogFormat(StrEnum):
    """How lines are written."""

    text = "text"
    ndjson = "ndjson"


def log_routes(functions: Functions, controllers: Controllers) -> APIRouter:
    """`/api/v1/functions/{name}/logs`."""
    routes = APIRouter(prefix=f"{PREFIX}/functions", tags=["functions"])

    @routes.get(
        "/{name}/logs",
        operation_id="getLogs",
        response_class=Response,
        responses={
            **errors(400, 404, 503),
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

    return routes


def choose_format(asked: LogFormat | None, accept: str) -> LogFormat:
    """What the query asks for, else text for those who accept it by name, else JSON lines."""
    if asked is not None:
        return asked
    return LogFormat.text if "text/" in accept else LogFormat.ndjson


class LogAnswer(Response):
    """Opens the logs when it is sent, so that what was opened ends with the answer.

    Args:
        tail: lines of the past at most; 0: all that is kept.
        follow: goes on with what is written from now on.
    """

    def __init__(
        self, controllers: Controllers, name: str, *, follow: bool, tail: int, form: LogFormat
    ) -> None:
        super().__init__()
        self._controllers = controllers
        self._name = name
        self._follow = follow
        self._tail = tail
        self._form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._follow:
            past = await self._controllers.past_logs(self._name, self._tail)
            await self._send(_each(past), scope, receive, send)
            return
        async with self._controllers.following_logs(self._name, self._tail) as lines:
            await self._send(lines, scope, receive, send)

    async def _send(
        self, lines: AsyncIterator[pb.LogLine], scope: Scope, receive: Receive, send: Send
    ) -> None:
        async def content() -> AsyncIterator[str]:
            async for line in lines:
                yield format_line(line, self._form)

        answer = StreamingResponse(content(), media_type=MEDIA_TYPES[self._form])
        await answer(scope, receive, send)


async def _each(lines: list[pb.LogLine]) -> AsyncIterator[pb.LogLine]:
    for line in lines:
        yield line


def format_line(line: pb.LogLine, form: LogFormat) -> str:
    """One line, its end included."""
    one = log_line(line)
    if form is LogFormat.ndjson:
        return one.model_dump_json() + "\n"
    return (
        f"{one.time} {one.level:<7} {one.pod} v{one.version} {one.request_id or '-'}  {one.text}\n"
    )
