"""Calls about the versions of functions."""

from __future__ import annotations

from typing import cast

from sanfran_cli.client.answers import Function
from sanfran_cli.client.connection import Connection
from sanfran_cli.client.urls import function_path


class VersionCalls(Connection):
    """What there was, and back to it."""

    async def versions(self, name: str) -> list[Function]:
        """The versions of a function that are kept, the newest first, which is the current one.

        Raises:
            NotFound: there is no such function.
        """
        answer = await self._json("GET", f"{function_path(name)}/versions")
        return cast("list[Function]", answer["versions"])

    async def rollback(
        self, name: str, version: int | None = None, *, of_version: int | None = None
    ) -> Function:
        """Makes a new version with the code, the settings and the secrets of an older one.

        Args:
            version: the older one; None: the one before the current.
            of_version: the version that the function must be at; None: any.

        Raises:
            NotFound: there is no such function, or no such version any more.
            VersionChanged: it is not at `of_version`.
        """
        headers = {} if of_version is None else {"if-match": f'"{of_version}"'}
        params = {} if version is None else {"version": str(version)}
        path = f"{function_path(name)}/rollback"
        answer = await self._json("POST", path, params=params, headers=headers)
        return cast("Function", answer)
