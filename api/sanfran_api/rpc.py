"""The gRPC contract `Api`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any

from grpclib import GRPCError, Status
from grpclib.const import Handler
from grpclib.server import Stream
from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_api.access.audit import names_of
from sanfran_api.access.calls import allow, current_caller, may_see, note_changed, shown
from sanfran_api.access.invocations import Invocations
from sanfran_api.access.privileges import Privilege
from sanfran_api.errors import ApiError, BadRequest, SlowUpload
from sanfran_api.functions import Code, Functions, Given
from sanfran_api.intake import Intake, Upload
from sanfran_api.labels import parse_selector
from sanfran_api.metrics import BUNDLE_BYTES
from sanfran_api.names import shorten
from sanfran_api.settings import FIELDS, from_message
from sanfran_api.store.store import Store
from sanfran_api.watch import Watcher, Watchers

log = get_logger("rpc")

PAGE = 100
"""Functions in one message at most, whose bytes are made at once: 3 ms."""
LINGER_SECONDS = 5.0

IN_MESSAGES = {
    "settings.timeout": "settings.timeout_ms",
    "settings.idle_timeout": "settings.idle_timeout_ms",
    "settings.memory": "settings.memory_mb",
}
"""Fields that gRPC calls otherwise than REST does."""
MASKABLE = {
    IN_MESSAGES.get(f"settings.{one}", one).removeprefix("settings."): one for one in FIELDS
}
"""Settings by their names in messages."""


@contextmanager
def answering() -> Iterator[None]:
    """Turns what the service raises into gRPC's errors."""
    try:
        yield
    except ApiError as error:
        field = IN_MESSAGES.get(error.field, error.field)
        message = error.message
        if field and not message.startswith(field):
            message = f"{field}: {message.removeprefix(error.field).removeprefix(': ')}"
        if error.http_status == 500:
            log.error("call failed", error=message, exc_info=error)
        raise GRPCError(error.grpc_status, message) from error


class ApiRpc(pb.ApiBase):
    """Serves `Api`.

    Args:
        functions: what can be done.
        intake: admits uploads.
        store: bundles and history.
        watchers: who follows it.
        invocations: who may invoke private functions.
    """

    def __init__(
        self,
        functions: Functions,
        intake: Intake,
        store: Store,
        watchers: Watchers,
        invocations: Invocations,
    ) -> None:
        self._invocations = invocations
        self._functions = functions
        self._intake = intake
        self._store = store
        self._watchers = watchers

    def __mapping__(self) -> dict[str, Handler]:
        methods = super().__mapping__()
        # A generator can be left hanging when its call is cancelled between two messages. What
        # owns tasks, or has to be told of its end, gets the stream itself.
        own: Mapping[str, Callable[[Stream[Any, Any]], Coroutine[Any, Any, None]]] = {
            "/sanfran.v1.Api/WatchFunctions": self._watch,
            "/sanfran.v1.Api/FetchBundle": self._fetch,
        }
        for path, func in own.items():
            methods[path] = methods[path]._replace(func=func)
        return methods

    async def create_function(self, messages: AsyncIterator[pb.Upload]) -> pb.FunctionVersion:
        with answering():
            async with self._received(messages) as (header, upload):
                given = from_message(header.settings or pb.FunctionSettings())
                code = _code(header, upload)
                note_changed(*names_of(given, code=True))
                if header.name:
                    allow(Privilege.CREATE, header.name)
                by = current_caller().name
                made = await self._functions.create(header.name, code, given, by=by)
            return shown(made.version)

    async def update_function(self, messages: AsyncIterator[pb.Upload]) -> pb.FunctionVersion:
        with answering():
            async with self._received(messages) as (header, upload):
                given, code = _given(header), _code(header, upload)
                note_changed(*names_of(given or {}, code=code is not None))
                if code is not None:
                    allow(Privilege.UPDATE, header.name)
                if given is not None or code is None:
                    allow(Privilege.UPDATE_SETTINGS, header.name)
                made = await self._functions.update(
                    header.name,
                    code,
                    given,
                    of_version=header.of_version or None,
                    by=current_caller().name,
                )
            return shown(made.version)

    async def get_function(self, message: pb.GetFunctionRequest) -> pb.FunctionVersion:
        with answering():
            allow(Privilege.LIST, message.name)
            return shown(self._functions.get(message.name))

    async def resolve_function(self, message: pb.GetFunctionRequest) -> pb.FunctionVersion:
        with answering():
            return self._functions.resolve(message.name)

    async def list_functions(self, message: pb.ListFunctionsRequest) -> pb.ListFunctionsResponse:
        with answering():
            page = await self._functions.page(
                message.after,
                min(message.limit or PAGE, PAGE),
                parse_selector(message.labels),
                may_see(),
            )
        return pb.ListFunctionsResponse(
            functions=[shown(function) for function, _ in page.functions],
            next_after=page.next_after,
        )

    async def delete_function(self, message: pb.DeleteFunctionRequest) -> pb.DeleteFunctionResponse:
        with answering():
            allow(Privilege.DELETE, message.name)
            await self._functions.delete(message.name, of_version=message.of_version or None)
        return pb.DeleteFunctionResponse()

    async def authorize(self, message: pb.AuthorizeRequest) -> pb.AuthorizeResponse:
        with answering():
            return await self._invocations.authorize(message)

    async def _watch(self, stream: Stream[pb.WatchFunctionsRequest, pb.FunctionEvent]) -> None:
        first = await stream.recv_message()
        if first is None or first.start is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "the first message must be `start`")
        start = first.start
        name = start.watcher or "unnamed"
        with self._watchers.attach(name, start.controller) as watcher:
            async with OwnedTasks(f"watcher {name}") as tasks:
                tasks.loop(self._send(stream, watcher, start.from_revision), name="events")
                async for message in stream:
                    if message.applied is not None:
                        watcher.applied(message.applied.revision)
                    elif message.live is not None:
                        watcher.told_live(message.live.controllers)

    async def _send(
        self,
        stream: Stream[pb.WatchFunctionsRequest, pb.FunctionEvent],
        watcher: Watcher,
        from_revision: int,
    ) -> None:
        with answering():
            async for event in watcher.events(self._store, from_revision):
                await stream.send_message(event)

    async def _fetch(self, stream: Stream[pb.FetchBundleRequest, pb.BundleChunk]) -> None:
        message = await stream.recv_message()
        assert message is not None, "grpclib has read the request of a unary call"
        try:
            digest = bytes.fromhex(message.digest)
        except ValueError:
            raise GRPCError(
                Status.INVALID_ARGUMENT, "digest: not hexadecimal; 64 digits work"
            ) from None
        with answering(), closing(self._store.bundle_chunks(digest)) as chunks:
            for chunk in chunks:
                await stream.send_message(pb.BundleChunk(data=chunk))
                BUNDLE_BYTES.inc(len(chunk))

    @asynccontextmanager
    async def _received(
        self, messages: AsyncIterator[pb.Upload]
    ) -> AsyncIterator[tuple[pb.UploadHeader, Upload | None]]:
        first = await anext(messages, None)
        if first is None or first.header is None:
            raise BadRequest("the first message must be `header`")
        header = first.header
        try:
            async with self._intake.open() as upload:
                await self._receive(messages, upload)
                # An empty file is a file: its name says so.
                yield header, upload if header.file_name or upload.size else None
        except ApiError:
            await _linger(messages)
            raise

    async def _receive(self, messages: AsyncIterator[pb.Upload], upload: Upload) -> None:
        while True:
            try:
                async with asyncio.timeout(self._intake.idle_timeout):
                    message = await anext(messages, None)
            except TimeoutError:
                raise SlowUpload("the upload stood still") from None
            if message is None:
                break
            if message.chunk is None:
                raise BadRequest("after the header, every message must be a `chunk`")
            await upload.write(message.chunk)
        await upload.flush()


async def _linger(messages: AsyncIterator[pb.Upload]) -> None:
    """Reads the rest of a refused upload: clients that still send take the answer for a broken
    connection."""
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            async for _ in messages:
                pass
    except TimeoutError:
        pass


def _code(header: pb.UploadHeader, upload: Upload | None) -> Code | None:
    if upload is None:
        return None
    return Code(upload, header.file_name, header.source, not header.no_build)


def _given(header: pb.UploadHeader) -> Given | None:
    """The settings that an update gives; None: none.

    A mask counts as everywhere in gRPC (google.aip.dev/134): without one, what is not zero is given, so that who is not
    shown `env` and sends back what they were shown keeps it.
    """
    mask = list(header.settings_mask.paths) if header.settings_mask is not None else []
    if header.settings is None and not header.remove_secrets and not mask:
        return None
    settings = header.settings or pb.FunctionSettings()
    chosen = _chosen(mask)
    given = {
        field: value
        for field, value in from_message(settings).items()
        if (field in chosen if mask else value is not None)
    }
    if "secrets" in given or header.remove_secrets:
        # Empty is how it was shown: it stays, like those that are not named.
        named = {name: value for name, value in settings.secrets.items() if value}
        removed = dict.fromkeys(header.remove_secrets)
        given["secrets"] = {**(named if "secrets" in given else {}), **removed}
    return given


def _chosen(mask: Iterable[str]) -> set[str]:
    chosen: set[str] = set()
    for path in mask:
        if path == "*":
            chosen.update(FIELDS)
        elif path in MASKABLE:
            chosen.add(MASKABLE[path])
        else:
            raise BadRequest(
                f"settings_mask: {shorten(path)!r} is no field of the settings; * works, and "
                f"{', '.join(MASKABLE)}",
                field="settings_mask",
            )
    return chosen
