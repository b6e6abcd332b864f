"""What functions wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from sanfran_cli.client.answers import LogLine
from sanfran_cli.client.connection import Connection
from sanfran_cli.client.urls import function_path


class LogCalls(Connection):
    """Lines of the past, and those that come."""

    async def logs(
        self, name: str, *, follow: bool = False, tail: int = 0
    ) -> AsyncIterator[LogLine]:
        """What the function wrote, oldest first.

        Args:
            follow: goes on with what it writes from now on, without end.
            tail: lines of the past at most; 0: all that is kept.

        Raises:
            NotFound: there is no such function.
        """
        lines = self._json_lines(
            "GET",
            f"{function_path(name)}/logs",
            params={"follow": "true" if follow else "false", "tail": str(tail)},
            headers={"accept": "application/x-ndjson"},
        )
        async with aclosing(lines):
            async for line in lines:
                yield line
