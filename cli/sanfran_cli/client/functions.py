"""Calls about functions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import cast

from sanfran_cli.client.answers import Function
from sanfran_cli.client.connection import Connection
from sanfran_cli.client.uploads import counted, opened
from sanfran_cli.client.urls import function_path
from sanfran_cli.pack import Upload
from sanfran_cli.settings import Settings


class FunctionCalls(Connection):
    """Create, change, show and delete functions."""

    async def create(
        self,
        name: str,
        code: Path | Upload,
        settings: Settings | None = None,
        *,
        sent: Callable[[int], object] = lambda _: None,
    ) -> Function:
        """Makes a function; it answers calls from then on.

        Args:
            name: a DNS-1123 label: a-z, 0-9 and -, at most 63 characters.
            code: a file, a folder, or what `open_upload` gave.
            settings: those that are absent get the service's defaults.
            sent: told the bytes of each part of the code as it is sent.

        Raises:
            AlreadyExists: the name is taken.
        """
        with opened(code) as upload:
            files = {"file": counted(upload, sent)}
            form = {"name": name, "settings": json.dumps(settings or {})}
            return cast("Function", await self._json("POST", "functions", data=form, files=files))

    async def update(
        self,
        name: str,
        code: Path | Upload | None = None,
        settings: Settings | None = None,
        *,
        of_version: int | None = None,
        sent: Callable[[int], object] = lambda _: None,
    ) -> Function:
        """Makes a new version. No call that begins after the answer meets an older one, unless
        the answer's `applied` is false.

        Args:
            code: None keeps the code.
            settings: those that are absent stay as they are.
            of_version: the version that the change is made for; None: any.

        Raises:
            NotFound: there is no such function.
            VersionChanged: it is not at `of_version`.
        """
        headers = {} if of_version is None else {"if-match": f'"{of_version}"'}
        form = {"settings": json.dumps(settings)} if settings is not None else {}
        path = function_path(name)
        if code is None:
            # httpx sends multipart only when there is a file: a part without a name is a field.
            fields = {key: (None, value) for key, value in form.items()}
            return cast("Function", await self._json("PUT", path, files=fields, headers=headers))
        with opened(code) as upload:
            files = {"file": counted(upload, sent)}
            answer = await self._json("PUT", path, data=form, files=files, headers=headers)
            return cast("Function", answer)

    async def get(self, name: str) -> Function:
        """One function, with its present version.

        Raises:
            NotFound: there is no such function.
        """
        return cast("Function", await self._json("GET", function_path(name)))

    async def list(
        self, *, status: bool = False, labels: Iterable[str] = ()
    ) -> AsyncIterator[Function]:
        """Every function by name, fetched page by page.

        Args:
            status: what becomes of each, too.
            labels: only those that have all of these, `key=value`, or `key` for any value.
        """
        wanted = tuple(labels)
        after = ""
        while True:
            params = {
                **({"after": after} if after else {}),
                **({"status": "true"} if status else {}),
                "label": wanted,
            }
            page = await self._json("GET", "functions", params=params)
            for function in page["functions"]:
                yield function
            after = page.get("next_after") or ""
            if not after:
                return

    async def delete(self, name: str, *, of_version: int | None = None) -> None:
        """Removes a function; calls get 404 from then on, running ones finish.

        Args:
            of_version: the version that it is meant for; None: any.

        Raises:
            NotFound: there is no such function.
            VersionChanged: it is not at `of_version`.
        """
        headers = {} if of_version is None else {"if-match": f'"{of_version}"'}
        await self._json("DELETE", function_path(name), headers=headers)
