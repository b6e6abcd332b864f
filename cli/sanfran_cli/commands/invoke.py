"""invoke."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import os
import sys
from pathlib import Path

import click
import httpx

from sanfran_cli import output as show
from sanfran_cli.client import Client, Credentials, Server, is_local
from sanfran_cli.client.trust import verification
from sanfran_cli.commands.options import API, NAME
from sanfran_cli.errors import Refused


@click.command("invoke")
@NAME
@click.argument("subpath", default="")
@click.option(
    "-d", "--data", metavar="DATA|@FILE", help="The body; @FILE reads a file, @- standard input."
)
@click.option("-X", "--method", help="GET without -d, POST with it, unless given.")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="'K: V'", help="A header; may be repeated."
)
@API
def invoke_command(
    name: str,
    subpath: str,
    data: str | None,
    method: str | None,
    headers: tuple[str, ...],
    api: Server,
) -> None:
    """Call the function NAME and print what it answers.

    SUBPATH may have a query, as in bye?name=Vik or ?name=Vik. An error status ends with exit
    code 1 and prints its body to standard error.
    """
    sent = [_header(one) for one in headers]
    body = None if data is None else _body(data)
    if data is not None and not any(key.lower() == b"content-type" for key, _ in sent):
        sent.append((b"content-type", _content_type(data, body or b"").encode()))

    async def invoke() -> int:
        async with Client(api) as client:
            url = show.function_url(name, await client.info())
        if not url:
            raise Refused(f"{api} does not know where its functions answer (its --public-url)")
        url += subpath if not subpath or subpath[0] == "?" else f"/{subpath.removeprefix('/')}"
        chosen = method or ("GET" if body is None else "POST")
        return await _call(url, chosen, sent, body, api.credentials)

    if asyncio.run(invoke()) >= 400:
        sys.exit(1)


async def _call(
    url: str,
    method: str,
    headers: list[tuple[bytes, bytes]],
    body: bytes | None,
    credentials: Credentials | None,
) -> int:
    # The function's own timeout is the router's to keep; here only a dead router must be noticed.
    patience = httpx.Timeout(None, connect=5)
    try:
        async with (
            httpx.AsyncClient(
                timeout=patience, trust_env=not is_local(url), verify=verification(url)
            ) as http,
            http.stream(method, url, headers=headers, content=body) as answer,
        ):
            if credentials and answer.status_code == 401 and _is_routers(answer):
                # Only now, and in a header that no router passes on: a function that only says so gets
                # nothing by it.
                more = [*headers, (b"x-sanfran-authorization", credentials.header.encode())]
                return await _call(url, method, more, body, None)
            if answer.is_error:
                click.echo(f"HTTP {answer.status_code} {answer.reason_phrase}", err=True)
            into = sys.stderr.buffer if answer.is_error else sys.stdout.buffer
            last = b""
            async for part in answer.aiter_bytes():
                into.write(part)
                into.flush()
                last = part or last
            if last and not last.endswith(b"\n") and into.isatty():
                into.write(b"\n")
                into.flush()
            return answer.status_code
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise Refused(f"{url}: {str(error) or type(error).__name__}") from error


def _is_routers(answer: httpx.Response) -> bool:
    return 'realm="sanfran"' in answer.headers.get("www-authenticate", "")


def _header(text: str) -> tuple[bytes, bytes]:
    key, colon, value = os.fsencode(text).partition(b":")
    if not colon or not key.strip() or not key.isascii():
        raise click.BadParameter(f"{text!r} is not 'K: V'; try 'accept: text/html'")
    if key.strip().lower() == b"content-length":
        raise click.BadParameter(f"{text!r}: the length is counted; leave it out")
    return key.strip(), value.strip()


def _body(data: str) -> bytes:
    if not data.startswith("@"):
        return os.fsencode(data)
    if data == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{data}: {error.strerror}", param_hint="'-d'") from None


def _content_type(data: str, body: bytes) -> str:
    """A file's by its ending; of anything else JSON where it is JSON."""
    if data.startswith("@") and data != "@-":
        return mimetypes.guess_type(data[1:])[0] or "application/octet-stream"
    try:
        json.loads(body)
    except ValueError:
        return "text/plain; charset=utf-8"
    return "application/json"
