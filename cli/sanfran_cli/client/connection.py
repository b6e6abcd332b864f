"""One api service over HTTP: requests out, JSON and streams in, refusals as exceptions."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx

from sanfran_cli.client.credentials import Credentials, Server
from sanfran_cli.client.trust import explain, verification
from sanfran_cli.client.urls import DEFAULT_API, is_local
from sanfran_cli.errors import ApiUnreachable, ConnectionBroken, refusal

CONNECT_SECONDS = 5.0
BROKEN = (
    *(httpx.ReadError, httpx.WriteError, httpx.CloseError),
    *(httpx.ReadTimeout, httpx.WriteTimeout),
)
"""What goes wrong only with somebody who was there."""
ANSWER_SECONDS = 120.0
"""Without a byte from the service: an update waits until every controller has applied it."""


class Connection:
    """What the calls of `Client` stand on. An async context manager.

    Args:
        api: the service's URL, such as http://127.0.0.1:8081, or a URL with credentials.
        credentials: `Login("vik", password)` or `Token(text)`, in place of those of `api`.
    """

    def __init__(
        self, api: str | Server = DEFAULT_API, credentials: Credentials | None = None
    ) -> None:
        if isinstance(api, Server):
            credentials = credentials or api.credentials
        self.api = str(api).rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=f"{self.api}/api/v1/",
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            trust_env=not is_local(self.api),
            verify=verification(self.api),
            headers={"authorization": credentials.header} if credentials else None,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def _json(self, method: str, path: str, **arguments: Any) -> Any:
        """The answer's JSON; None for an empty one. Arguments are those of httpx."""
        async with self._answer(method, path, **arguments) as answer:
            body = await answer.aread()
            if not body:
                return None
            try:
                return json.loads(body)
            except ValueError as error:
                raise ApiUnreachable(self.api, "the answer is not JSON") from error

    async def _json_lines(
        self, method: str, path: str, **arguments: Any
    ) -> AsyncGenerator[Any, None]:
        """Each line of an answer that may take any time, as it comes."""
        quiet = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, read=None)
        async with self._answer(method, path, timeout=quiet, **arguments) as answer:
            # Not aiter_lines: that ends a line at U+2028 and the like, which may stand in a text.
            waiting = b""
            async for piece in answer.aiter_bytes():
                *lines, waiting = (waiting + piece).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, **arguments: Any
    ) -> AsyncIterator[httpx.Response]:
        """An answer that is a success, its body not read yet."""
        begun = False
        try:
            async with self._http.stream(method, path, **arguments) as answer:
                begun = True
                if answer.is_error:
                    raise refusal(
                        self.api, answer.status_code, dict(answer.headers), await answer.aread()
                    )
                yield answer
        except (httpx.TransportError, httpx.InvalidURL) as error:
            if begun or isinstance(error, BROKEN) or "disconnected" in str(error):
                changes = method != "GET"
                raise ConnectionBroken(self.api, explain(error), changes=changes) from error
            raise ApiUnreachable(self.api, explain(error)) from error
