"""Calls about functions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import httpx

from sanfran_cli.client.answers import Function
from sanfran_cli.client.connection import ANSWER_SECONDS, CONNECT_SECONDS, Connection
from sanfran_cli.client.uploads import counted, opened
from sanfran_cli.client.urls import function_path
from sanfran_cli.errors import ConnectionBroken, Refused, refusal
from sanfran_cli.pack import Upload
from sanfran_cli.settings import Settings

NDJSON = "application/x-ndjson"
ASK_FROM_BYTES = 8 * 1024 * 1024
"""Larger code is worth a question for the service's limit before it is sent."""
DRY_RUN = {"dry_run": "true"}
UNSENT = ("unsent", "")
"""Stands for a file in a dry run: what is to be judged depends on whether there is one."""
BUILD_SECONDS = 1800.0
"""Without a word of a build: npm says nothing while it downloads, and the service has a limit of its own."""


class FunctionCalls(Connection):
    """Create, change, show and delete functions."""

    async def create(
        self,
        name: str,
        code: Path | Upload,
        settings: Settings | None = None,
        *,
        sent: Callable[[int], object] = lambda _: None,
        build: bool = True,
        source: str = "",
        said: Callable[[str], object] = lambda _: None,
        dry_run: bool = False,
    ) -> Function:
        """Makes a function; it answers calls from then on.

        Args:
            name: a DNS-1123 label: a-z, 0-9 and -, at most 63 characters.
            code: a file, a folder, or what `open_upload` gave.
            settings: those that are absent get the service's defaults.
            sent: told the bytes of each part of the code as it is sent.
            build: the service installs what package.json names where there is no node_modules.
            source: what you call this code: shown with the function.
            said: told each line that the build writes, as it comes.
            dry_run: make nothing; be refused what would be refused, and get what would be made. The
                code is not looked into, let alone sent, so nothing is known of it.

        Raises:
            AlreadyExists: the name is taken.
            Refused: the code cannot be read, or is larger than the service takes.
            BuildFailed: the dependencies could not be installed; the text has npm's reason.
        """
        form = {"name": name, "settings": json.dumps(settings or {}), **_how(build, source)}
        if dry_run:
            form |= DRY_RUN
            answer = await self._json("POST", "functions", data=form, files={"file": UNSENT})
            return cast("Function", answer)
        with opened(code) as upload:
            await self._check_size(upload)
            files = {"file": counted(upload, sent)}
            return await self._build("POST", "functions", said, data=form, files=files)

    async def update(
        self,
        name: str,
        code: Path | Upload | None = None,
        settings: Settings | None = None,
        *,
        of_version: int | None = None,
        unless_same: bool = False,
        sent: Callable[[int], object] = lambda _: None,
        build: bool = True,
        source: str = "",
        said: Callable[[str], object] = lambda _: None,
        dry_run: bool = False,
    ) -> Function:
        """Makes a new version. No call that begins after the answer meets an older one, unless
        the answer's `applied` is false.

        Args:
            code: None keeps the code.
            settings: those that are absent stay as they are.
            of_version: the version that the change is made for; None: any.
            unless_same: answers the present version when no setting would be different.
            sent, build, source, said: of the code, as in `create`.
            dry_run: change nothing, as in `create`.

        Raises:
            NotFound: there is no such function.
            VersionChanged: it is not at `of_version`.
            BuildFailed: the dependencies could not be installed; the former version goes on.
        """
        headers = {} if of_version is None else {"if-match": f'"{of_version}"'}
        form = {"settings": json.dumps(settings)} if settings is not None else {}
        path = function_path(name)
        if code is not None:
            form |= _how(build, source)
        if code is None or dry_run:
            form |= DRY_RUN if dry_run else {}
            # httpx sends multipart only when there is a file: a part without a name is a field.
            fields: dict[str, tuple[str | None, str]] = {
                **{key: (None, value) for key, value in form.items()},
                **({"file": UNSENT} if code is not None else {}),
            }
            params = {"unless_same": "true"} if unless_same else {}
            answer = await self._json("PUT", path, files=fields, headers=headers, params=params)
            return cast("Function", answer)
        with opened(code) as upload:
            await self._check_size(upload)
            files = {"file": counted(upload, sent)}
            return await self._build("PUT", path, said, data=form, files=files, headers=headers)

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

    async def _check_size(self, upload: Upload) -> None:
        """Refuses what the service would refuse when it has read up to its limit.

        Raises:
            Refused: it is too large.
        """
        if upload.size < ASK_FROM_BYTES:
            return
        limits = (await self._json("GET", "")).get("limits", {})
        most = limits.get("max_upload_bytes", upload.size)
        if upload.size > most:
            raise Refused(
                f"{upload.file_name}: {upload.size} bytes, and the service takes {most} at most (its "
                "--max-upload-bytes); nothing was sent"
            )

    async def _build(
        self,
        method: str,
        path: str,
        said: Callable[[str], object],
        headers: Mapping[str, str] | None = None,
        **form: Any,
    ) -> Function:
        """Sends code; answers when it is live, which may take a build that tells of itself meanwhile."""
        headers = {**(headers or {}), "accept": f"{NDJSON}, application/json"}
        patience = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, read=BUILD_SECONDS)
        async with self._answer(method, path, headers=headers, timeout=patience, **form) as answer:
            if answer.headers.get("content-type") != NDJSON:
                return cast("Function", json.loads(await answer.aread()))
            last: dict[str, Any] = {}
            waiting = b""
            async for piece in answer.aiter_bytes():
                *lines, waiting = (waiting + piece).split(b"\n")
                for line in lines:
                    last = json.loads(line)
                    if "log" in last:
                        said(last["log"])
        if "function" in last:
            return cast("Function", last["function"])
        if "error" not in last:
            raise ConnectionBroken(self.api, "in the middle of a build", changes=True)
        raise refusal(self.api, last["status"], {}, json.dumps(last).encode())


def _how(build: bool, source: str) -> dict[str, str]:
    return {"build": "true" if build else "false", "source": source}
