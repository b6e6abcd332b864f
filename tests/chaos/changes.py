"""What whoever deploys does: creates, updates and deletes functions by REST, and notes what was acknowledged."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.chaos.functions import Code, Life

PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Change:
    """A change that has been tried. Times are monotonic seconds.

    Args:
        outcome: `applied`, `stored` (but not applied in time), or why it failed.
    """

    what: str
    began: float
    ended: float
    outcome: str

    @property
    def applied(self) -> bool:
        """It has returned, and nothing older answers any more."""
        return self.outcome == "applied"


class Changes:
    """Makes changes, and keeps the functions' lives.

    Args:
        api: base URL of REST.
        records: folder that functions tell their calls in.
        tell: takes each change that was tried.
    """

    def __init__(self, api: str, records: Path, tell: Callable[[Change], None]) -> None:
        self._api = f"{api}/api/v1/functions"
        self._records = records
        self._tell = tell
        self._codes: dict[str, Code] = {}
        # Of two changes of one function at once nobody could say which is the newer.
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.lives: dict[str, Life] = {}

    async def create(self, name: str, code: Code) -> Change:
        """Makes a function, or makes it again."""
        self._codes[name] = code
        life = self.lives.setdefault(name, Life())
        async with self._turns[name]:
            life.become("coming")
            change = await self._put("POST", self._api, name, {"name": name})
            if change.applied:
                life.become("there")
        return change

    async def update(self, name: str) -> Change:
        """Gives a function a new version."""
        async with self._turns[name]:
            return await self._put("PUT", f"{self._api}/{name}", name, {})

    async def delete(self, name: str) -> Change:
        """Deletes a function."""
        life = self.lives[name]
        async with self._turns[name]:
            life.become("leaving")
            change = await self._send("DELETE", f"{self._api}/{name}", name)
            if change.applied:
                life.become("gone")
        return change

    async def _put(self, method: str, url: str, name: str, fields: dict[str, str]) -> Change:
        life, code = self.lives[name], self._codes[name]
        life.begun = stamp = life.begun + 1
        file = ("function.js", code.text(name, stamp, self._records).encode())
        # `settings` as a plain field: REST takes it as text.
        fields = {**fields, "settings": json.dumps(code.settings)}
        change = await self._send(method, url, name, data=fields, files={"file": file})
        if change.applied:
            life.acknowledged = max(life.acknowledged, stamp)
        return change

    async def _send(
        self,
        method: str,
        url: str,
        name: str,
        data: dict[str, str] | None = None,
        files: dict[str, tuple[str, bytes]] | None = None,
    ) -> Change:
        began = time.monotonic()
        try:
            async with httpx.AsyncClient(timeout=PATIENCE) as client:
                got = await client.request(method, url, data=data, files=files)
        except httpx.HTTPError as error:
            outcome = type(error).__name__
        else:
            if got.is_success:
                applied = got.headers["SanFran-Applied"] == "true"
                outcome = "applied" if applied else "stored"
            else:
                outcome = f"{got.status_code} {got.json()['error']['code']}"
        change = Change(f"{method} {name}", began, time.monotonic(), outcome)
        self._tell(change)
        return change
