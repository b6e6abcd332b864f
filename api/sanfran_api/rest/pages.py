"""A page of functions as JSON, made and sent in pieces: between two of them the event loop does all else that waits.

A thousand functions are half a megabyte of JSON, some 30 ms to make and 10 ms to compress.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sanfran_api.rest.turns import let_others_in

AT_ONCE = 25
"""Functions in a piece; about a millisecond."""


class Page(Response):
    """JSON of `models.Functions`, in pieces that `of` has made."""

    media_type = "application/json"

    def __init__(self, pieces: list[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers)
        self._pieces = pieces
        self.headers["content-length"] = str(sum(map(len, pieces)))

    @classmethod
    async def of(
        cls, functions: Iterable[Mapping[str, Any]], next_after: str, headers: Mapping[str, str]
    ) -> Page:
        """Makes one.

        Args:
            functions: the fields of each; taken one by one, so that a generator's work has pauses, too.
        """
        pieces: list[bytes] = []
        batch: list[bytes] = []
        for one in functions:
            batch.append(to_json(one, exclude_none=True))
            if len(batch) == AT_ONCE:
                pieces.append(b",".join(batch))
                batch = []
                await let_others_in()
        if batch:
            pieces.append(b",".join(batch))
        pieces = [b"," * bool(at) + piece for at, piece in enumerate(pieces)] or [b""]
        pieces[0] = b'{"functions":[' + pieces[0]
        pieces[-1] += b'],"next_after":' + json.dumps(next_after).encode() + b"}"
        return cls(pieces, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        for left, piece in zip(reversed(range(len(self._pieces))), self._pieces, strict=True):
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
            await let_others_in()
