"""Answers to uploads that may take a build: what npm writes meanwhile, and an end when the client leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sanfran_common.lifecycle import OwnedTasks
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from sanfran_api.errors import ApiError
from sanfran_api.rest.guard import error_detail

NDJSON = "application/x-ndjson"

Say = Callable[[str], object]
Work = Callable[[Say], Awaitable[JSONResponse]]


def wants_lines(request: Request) -> bool:
    """Whether the client asks to be told of the build while it runs."""
    return NDJSON in request.headers.get("accept", "").lower()


@asynccontextmanager
async def ended_with_client(request: Request) -> AsyncIterator[None]:
    """Cancels what the block does when the client leaves: nobody is left who waits for it.

    Only after the request's body has been read.

    Raises:
        ClientDisconnect: it has left.
    """

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        raise ClientDisconnect

    async with OwnedTasks("request") as tasks:
        tasks.spawn(watch(), name="client")
        yield


class BuildAnswer(Response):
    """Lines of JSON, each as it comes: `{"log": …}` for each line of the build, and at the end
    `{"status": …}` with `function` or `error`, which are what the answer would be without.

    When there is nothing to tell before the end, that is the answer itself.
    """

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lines: asyncio.Queue[str | None] = asyncio.Queue()  # bounded by what a build may write
        state = scope["state"]
        async with OwnedTasks("build answer") as tasks:
            work = tasks.spawn(self._run(lines), name="work")
            started = False
            while (line := await lines.get()) is not None:
                if not started:
                    started = True
                    state["outcome"] = 0  # for the audit log: the status says nothing yet
                    await send(
                        {
                            "type": "http.response.start",
                            "status": 200,
                            "headers": [(b"content-type", NDJSON.encode())],
                        }
                    )
                await _send_line({"log": line}, send)
            outcome = await work
        if not started:
            if isinstance(outcome, ApiError):
                raise outcome
            await outcome(scope, receive, send)
            return
        if isinstance(outcome, ApiError):
            request_id = state["request_id"]
            state["outcome"], state["error_code"] = outcome.http_status, outcome.code
            error = error_detail(outcome.code, outcome.message, request_id, field=outcome.field)
            await _send_line({"status": outcome.http_status, "error": error}, send)
        else:
            state["outcome"] = outcome.status_code
            function = json.loads(bytes(outcome.body))
            await _send_line({"status": outcome.status_code, "function": function}, send)
        await send({"type": "http.response.body", "body": b""})

    async def _run(self, lines: asyncio.Queue[str | None]) -> JSONResponse | ApiError:
        try:
            return await self._work(lines.put_nowait)
        except ApiError as error:
            return error
        finally:
            lines.put_nowait(None)


async def _send_line(value: object, send: Send) -> None:
    body = json.dumps(value, ensure_ascii=False).encode(errors="replace") + b"\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})
