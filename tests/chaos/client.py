"""An HTTP client that hides nothing: one connection, no retry, and each failure by its name."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

import h11

PATIENCE = 20.0
"""Seconds for one request: twice what the engine lets one wait for a pod."""
_CHUNK = 65536


class Failed(Exception):
    """No whole answer. The text says how it ended."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes

    @property
    def outcome(self) -> str:
        """The status, and the code of an error of the engine."""
        if self.status == 200:
            return "200"
        try:
            return f"{self.status} {json.loads(self.body)['error']['code']}"
        except (ValueError, LookupError, TypeError):
            return str(self.status)


class Connection:
    """A connection to the router, opened by the first request and kept where that is possible."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._http = h11.Connection(h11.CLIENT)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.local_port = 0
        """Of our end, by which the router's processes can be told apart."""
        self.sent_at = 0.0
        """When the last request was written, monotonic seconds."""

    async def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b""
    ) -> Answer:
        """Sends a request, and waits for its whole answer.

        Raises:
            Failed: there is none; the connection is closed.
        """
        self._drop_what_has_ended()
        began = False
        try:
            async with asyncio.timeout(PATIENCE):
                await self._open()
                await self._send(method, path, headers, body)
                status, parts = 0, []
                while not isinstance(event := await self._next(), h11.EndOfMessage):
                    if isinstance(event, h11.Response):
                        began, status = True, event.status_code
                    elif isinstance(event, h11.Data):
                        parts.append(bytes(event.data))
        except ConnectionRefusedError:
            self.close()
            raise Failed("refused") from None
        except TimeoutError:
            self.close()
            raise Failed(f"no answer in {PATIENCE:g} s") from None
        except (OSError, h11.RemoteProtocolError) as error:
            self.close()
            where = "within" if began else "before"
            raise Failed(f"broken {where} the answer: {type(error).__name__}") from error
        except asyncio.CancelledError:
            self.close()
            raise
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self.close()
        return Answer(status, b"".join(parts))

    def close(self) -> None:
        """Closes it; the next request opens a new one."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None
        self._http = h11.Connection(h11.CLIENT)

    def _drop_what_has_ended(self) -> None:
        """As every client does with a kept connection that the server has closed meanwhile."""
        if self._reader is not None and (self._reader.at_eof() or self._reader.exception()):
            self.close()

    async def _open(self) -> None:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
            self.local_port = self._writer.get_extra_info("sockname")[1]

    async def _send(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        assert self._writer is not None
        fields = {"Host": f"{self._host}:{self._port}", **headers}
        if body:
            fields |= {"Content-Type": "text/plain", "Content-Length": str(len(body))}
        head = h11.Request(method=method, target=path, headers=list(fields.items()))
        data = self._http.send(head) or b""
        if body:
            data += self._http.send(h11.Data(data=body)) or b""
        self.sent_at = time.monotonic()
        self._writer.write(data + (self._http.send(h11.EndOfMessage()) or b""))
        await self._writer.drain()

    async def _next(self) -> h11.Event:
        assert self._reader is not None
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_CHUNK))
        if not isinstance(event, h11.Event):
            raise ConnectionResetError("closed")
        return event
