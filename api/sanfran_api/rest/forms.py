"""Multipart uploads, read as they come: texts into memory, the file into the intake's place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from sanfran_api.errors import ApiError, BadRequest, SlowUpload, TooLarge
from sanfran_api.intake import Intake, Upload
from sanfran_api.names import shorten
from sanfran_api.rest.turns import let_others_in

logging.getLogger("python_multipart").setLevel(logging.ERROR)
"""What it warns of is a client's mistake, and the answer says it."""

FILE = "file"
MAX_TEXT_BYTES = 512 * 1024
"""Of one text field; settings may have 64 KiB of variables and as much of secrets, escaped."""
FORM_OVERHEAD = 1024 * 1024
"""What a form may have besides its file."""
LINGER_SECONDS = 5.0
"""A refused client gets so long to finish sending: many read no answer before."""


@dataclass(slots=True)
class Form:
    """A form that has come in whole.

    Args:
        texts: the text fields that were sent.
        upload: the file, or None.
        file_name: as the client calls it.
    """

    texts: dict[str, str]
    upload: Upload | None
    file_name: str


@dataclass(slots=True)
class _Part:
    disposition: bytes = b""
    name: str = ""
    file_name: str | None = None
    text: bytearray = field(default_factory=bytearray)


@asynccontextmanager
async def received(
    request: Request, intake: Intake, *, texts: frozenset[str]
) -> AsyncIterator[Form]:
    """Reads a whole multipart/form-data body; its file is there as long as the block lasts.

    Args:
        texts: the fields that may come besides `file`.

    Raises:
        BadRequest: it is no such form, or has unknown fields.
        TooLarge, SlowUpload, Busy, StoreFull: as their names say.
        ClientDisconnect: the client has left.
    """
    boundary = _boundary(request.headers.get("content-type", ""))
    body = Body(request)
    async with body.heard_out():
        if content_length(request) > intake.limit + FORM_OVERHEAD:
            raise _too_large(intake)
    await let_others_in()
    async with intake.open() as upload:
        async with body.heard_out():
            form = await _read(body, boundary, intake, upload, texts)
        await let_others_in()  # a form that came at once was read at once
        yield form


async def _read(
    body: Body, boundary: bytes, intake: Intake, upload: Upload, texts: frozenset[str]
) -> Form:
    reader = _Reader(texts)
    try:
        parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]  # a TypedDict
        while not body.ended:
            parser.write(await body.next(intake.idle_timeout))
            # Of no stated length, and what follows the form counts too.
            if body.size > intake.limit + FORM_OVERHEAD:
                raise _too_large(intake)
            for part in reader.take_file():
                await upload.write(part)
        await upload.flush()
        return reader.form(upload)
    except FormParserError as error:
        raise BadRequest(f"the form is not well-formed: {shorten(str(error))}") from error


def content_length(request: Request) -> int:
    """Bytes of the body, as the client says; 0: it does not."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else 0


class Body:
    """The body of a request, part by part."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self._waits = "100-continue" in request.headers.get("expect", "").lower()
        self.ended = False
        self.size = 0

    async def next(self, idle: float) -> bytes:
        """The next part, waited for at most so many seconds."""
        try:
            async with asyncio.timeout(idle):
                message = await self._receive()
        except TimeoutError:
            raise SlowUpload(f"the upload stood still for {idle:g} s") from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.ended = not message.get("more_body")
        part: bytes = message.get("body", b"")
        self.size += len(part)
        return part

    @asynccontextmanager
    async def heard_out(self) -> AsyncIterator[None]:
        """Lets a client that is refused in here finish sending, but for one that stood still."""
        try:
            yield
        except SlowUpload:
            raise
        except ApiError:
            await self._linger()
            raise

    async def _linger(self) -> None:
        """Reads on for a while, into nowhere; not what the client sends only when it is told to."""
        if self._waits and not self.size:
            return
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.ended:
                    message = await self._receive()
                    self.ended = not message.get("more_body")
        except TimeoutError:
            pass


def _too_large(intake: Intake) -> TooLarge:
    return TooLarge(f"file: larger than {intake.limit} bytes", field=FILE)


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise BadRequest(
            f"Content-Type: {shorten(content_type)!r} is not multipart/form-data with a boundary; "
            "try curl -F file=@hello.js"
        )
    return boundary


class _Reader:
    """Collects what the parser finds."""

    def __init__(self, texts: frozenset[str]) -> None:
        self._known = texts
        self._part = _Part()
        self._header_name = b""
        self._header_value = b""
        self._file_parts: list[bytes] = []
        self._texts: dict[str, str] = {}
        self._file_name: str | None = None
        self._ended = False

    def callbacks(self) -> dict[str, object]:
        """For the parser."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def take_file(self) -> list[bytes]:
        """What has come of the file since the last call."""
        parts, self._file_parts = self._file_parts, []
        return parts

    def form(self, upload: Upload) -> Form:
        """The form, once the body has ended.

        Raises:
            BadRequest: it broke off.
        """
        if not self._ended:
            raise BadRequest("the form ends in the middle")
        # A browser sends a file field that was left empty as a file without a name.
        given = bool(self._file_name) or upload.size > 0
        return Form(self._texts, upload if given else None, self._file_name or "")

    def _begin(self) -> None:
        self._part = _Part()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._part.disposition = self._header_value
        self._header_name = self._header_value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._part.disposition)
        part = self._part
        part.name = options.get(b"name", b"").decode(errors="replace")
        if b"filename" in options:
            part.file_name = options[b"filename"].decode(errors="replace")
        if part.name == FILE:
            if part.file_name is None:
                raise BadRequest("file: sent as text; try curl -F file=@hello.js", field=FILE)
            if self._file_name is not None:
                raise BadRequest("file: sent twice; a folder goes as one archive", field=FILE)
            self._file_name = part.file_name
        elif part.name not in self._known:
            known = ", ".join(sorted({FILE, *self._known}))
            raise BadRequest(f"{shorten(part.name)!r}: unknown field; the fields are {known}")
        elif part.name in self._texts:
            raise BadRequest(f"{part.name}: sent twice", field=part.name)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part.name == FILE:
            self._file_parts.append(data[start:end])
            return
        part.text += data[start:end]
        if len(part.text) > MAX_TEXT_BYTES:
            raise TooLarge(f"{part.name}: larger than {MAX_TEXT_BYTES} bytes", field=part.name)

    def _part_end(self) -> None:
        part = self._part
        if part.name == FILE:
            return
        try:
            self._texts[part.name] = part.text.decode()
        except UnicodeDecodeError:
            raise BadRequest(f"{part.name}: not UTF-8", field=part.name) from None

    def _end(self) -> None:
        self._ended = True
