"""Who may, for every route: before its handler runs, and before its body is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fastapi import Request
from sanfran_common.telemetry.logs import get_logger
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sanfran_api.access.audit import REFUSED, Audit, Entry, names_of
from sanfran_api.access.gate import Gate, check
from sanfran_api.access.operations import REST, Needs
from sanfran_api.access.rules import Caller
from sanfran_api.names import shorten
from sanfran_api.rest.turns import let_others_in

log = get_logger("rest")


def caller_of(request: Request) -> Caller:
    """Who asks."""
    caller = request.state.caller
    assert isinstance(caller, Caller)
    return caller


def entry_of(request: Request) -> Entry:
    """What the audit log will say of the request; handlers add what only they know."""
    entry = request.state.entry
    assert isinstance(entry, Entry)
    return entry


def note_change(
    request: Request,
    function: str,
    settings: Mapping[str, object] | None,
    *,
    code: bool,
    dry_run: bool,
) -> None:
    """Tells the audit log what a request would change, once its body is known.

    Args:
        settings: of which only the names are noted, those of variables of env and secrets too.
        code: it brings code.
        dry_run: it changes nothing, so that only its refusal is worth a line.
    """
    entry = entry_of(request)
    entry.function = shorten(function)
    entry.changed = names_of(settings or {}, code=code)
    entry.changes = not dry_run


def admission(
    gate: Gate, audit: Audit, *, trust_forwarded: bool
) -> Callable[[Request], Awaitable[None]]:
    """The dependency of all routes. Leaves `caller` and `entry` in the request's state.

    Args:
        trust_forwarded: the client's address is the last of X-Forwarded-For.
    """

    async def admit(request: Request) -> None:
        route = request.scope["route"]
        named = route.operation_id or route.name
        operation = REST.get(named)
        if operation is None:
            raise RuntimeError(f"{named}: not in access/operations.py, so nobody may")
        address = _address(request, trust_forwarded=trust_forwarded)
        entry = request.state.entry = Entry(
            named,
            via="rest",
            address=address,
            changes=operation.changes,
            request_id=request.state.request_id,
        )
        function = request.path_params.get("name", "")
        entry.function = shorten(function)
        if operation.needs is Needs.NOBODY:
            return
        header = request.headers.getlist("authorization")
        # Of several, a proxy may have looked at another one than we do.
        admitted = await gate.admit(header[0] if len(header) == 1 else ",".join(header), address)
        caller = request.state.caller = admitted.caller
        entry.user, entry.admitted = caller.name, True
        check(operation, caller, function or None)
        if operation.changes:
            await audit.check()
        await let_others_in()

    return admit


class Audited:
    """Wraps the application: before an answer begins, the audit log knows of it."""

    def __init__(self, app: ASGIApp, audit: Audit) -> None:
        self._app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                await let_others_in()
                # One that begins before it is known how it ends tells the outcome when it is.
                state.setdefault("outcome", int(message["status"]))
            entry = state.get("entry")
            if entry is not None and state["outcome"] and not entry.written:
                result, code = _result(state["outcome"]), state.get("error_code", "")
                await self._audit.write(entry, result, code)
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            if (entry := state.get("entry")) is not None:
                await self._audit.write(entry, "broken off")


def _result(status: int) -> str:
    if status < 400:
        return "done"
    return "refused" if status in REFUSED else "failed"


def _address(request: Request, *, trust_forwarded: bool) -> str:
    told = request.headers.getlist("x-forwarded-for") if trust_forwarded else []
    if told and (last := told[-1].rpartition(",")[2].strip()):
        return last[:64]
    return request.client.host if request.client else "unknown"
