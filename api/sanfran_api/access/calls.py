"""Who may, for every call over gRPC: our own services, and people, who say who they are as in REST."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, cast

from betterproto2.grpclib import ServiceBase
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream
from sanfran_common.rpc.roles import refusal
from sanfran_common.rpc.server import address_of, caller_of
from sanfran_proto.sanfran import v1 as pb

from sanfran_api.access.audit import REFUSED, Audit, Entry
from sanfran_api.access.errors import Forbidden
from sanfran_api.access.gate import Gate, check
from sanfran_api.access.operations import RPC, Needs, Operation
from sanfran_api.access.privileges import Privilege
from sanfran_api.access.rules import NOBODY_ASKED, Caller
from sanfran_api.errors import ApiError
from sanfran_api.names import shorten

NAME_SECONDS = 2.0
"""So long is the message awaited that names what a refusal is about; it mostly comes with the call."""
_CALL: ContextVar[tuple[Caller, Entry]] = ContextVar("call")


def current_caller() -> Caller:
    """Who makes the call that runs here."""
    return _CALL.get()[0]


def allow(privilege: Privilege, function: str) -> None:
    """To be called by a method once it knows its function.

    Raises:
        Forbidden: the caller may not.
    """
    caller, entry = _CALL.get()
    entry.function = shorten(function)
    caller.check(privilege, function)


def may_see() -> Callable[[str], bool]:
    """Which functions the caller may see, by name."""
    caller = current_caller()
    return lambda name: caller.may(Privilege.LIST, name)


def shown(version: pb.FunctionVersion) -> pb.FunctionVersion:
    """The version as the caller may see it."""
    if version.settings is None or current_caller().may(Privilege.VIEW_SETTINGS, version.name):
        return version
    return replace(version, settings=replace(version.settings, env={}, secrets={}))


def note_changed(*names: str) -> None:
    """For the audit log: what the call changes, such as `settings.timeout`."""
    _CALL.get()[1].changed += names


def describe_error(error: ApiError) -> GRPCError:
    """As gRPC says it; a field's name stands before the message."""
    return GRPCError(error.grpc_status, error.message)


class AdmittedCalls:
    """A service whose every method asks who calls.

    Args:
        service: raises GRPCError for what goes wrong.
        secret: of our own services; empty: who brings no credentials is one of them.
        by_certificate: they also need a certificate whose role may call the method.
    """

    def __init__(
        self,
        service: ServiceBase,
        gate: Gate,
        audit: Audit,
        *,
        secret: str,
        by_certificate: bool = False,
    ) -> None:
        self._by_certificate = by_certificate
        self._service = service
        self._gate = gate
        self._audit = audit
        self._secret = f"Bearer {secret}" if secret else ""

    def __mapping__(self) -> dict[str, Handler]:
        methods: dict[str, Handler] = cast("Any", self._service).__mapping__()
        return {path: self._admitted(path, method) for path, method in methods.items()}

    def _admitted(self, path: str, method: Handler) -> Handler:
        name = path.rpartition("/")[2]
        operation = RPC.get(name)
        func = cast("Any", method.func)

        async def admitted(stream: Stream[Any, Any]) -> None:
            if operation is None:
                raise RuntimeError(f"{name}: not in access/operations.py, so nobody may")
            entry = Entry(name, via="rpc", address=address_of(stream), changes=operation.changes)
            try:
                is_service = self._is_service(path, stream)
                caller = await self._who(stream, operation, entry, is_service=is_service)
                token = _CALL.set((caller, entry))
                try:
                    await func(stream)
                finally:
                    _CALL.reset(token)
            except ApiError as error:
                result = "refused" if error.http_status in REFUSED else "failed"
                await self._audit.write(entry, result, error.code)
                raise describe_error(error) from error
            except GRPCError as error:
                refused = error.status in (Status.UNAUTHENTICATED, Status.PERMISSION_DENIED)
                code = error.status.name.lower()
                await self._audit.write(entry, "refused" if refused else "failed", code)
                raise
            except BaseException:
                await self._audit.write(entry, "broken off")
                raise
            await self._audit.write(entry, "done")

        return Handler(
            admitted,
            cast("Cardinality", method.cardinality),
            method.request_type,
            method.reply_type,
        )

    async def _who(
        self, stream: Stream[Any, Any], operation: Operation, entry: Entry, *, is_service: bool
    ) -> Caller:
        if is_service:
            entry.via = "service"
            entry.admitted = True
            caller = NOBODY_ASKED
        elif operation.needs is Needs.SERVICE:
            raise GRPCError(Status.UNAUTHENTICATED, "metadata authorization: not the secret")
        else:
            caller = (await self._gate.admit(_authorization(stream), entry.address)).caller
            entry.user = caller.name
            entry.admitted = True
            try:
                check(operation, caller, None)
            except Forbidden:
                if name := await _named(stream):  # as REST, whose path names it
                    entry.function = shorten(name)
                    check(operation, caller, name)
                raise
        if operation.changes:
            await self._audit.check()
        return caller

    def _is_service(self, path: str, stream: Stream[Any, Any]) -> bool:
        if self._by_certificate and refusal(path, caller_of(stream)) is not None:
            return False
        return hmac.compare_digest(_authorization(stream).encode(), self._secret.encode())


async def _named(stream: Stream[Any, Any]) -> str:
    """The function that the first message of a call names; empty: none, or it does not come."""
    try:
        async with asyncio.timeout(NAME_SECONDS):
            match await stream.recv_message():
                case pb.Upload(header=pb.UploadHeader(name=name)):
                    return name
                case pb.GetFunctionRequest(name=name) | pb.DeleteFunctionRequest(name=name):
                    return name
    except TimeoutError:
        pass
    return ""


def _authorization(stream: Stream[Any, Any]) -> str:
    metadata: Mapping[str, Any] = stream.metadata or {}
    return str(metadata.get("authorization", ""))
