"""Calls about the service itself and the engine behind it."""

from __future__ import annotations

from typing import cast

from sanfran_cli.client.answers import Caller, Pools, ServiceInfo
from sanfran_cli.client.connection import Connection


class ServiceCalls(Connection):
    """What holds for all functions."""

    async def info(self) -> ServiceInfo:
        """What the service says about itself, its functions' public URL above all."""
        return cast("ServiceInfo", await self._json("GET", ""))

    async def me(self) -> Caller:
        """Who one is there, and what one may do.

        Raises:
            Unauthenticated: nobody; user, password or token are wrong.
        """
        return cast("Caller", await self._json("GET", "me"))

    async def pool(self, *, decisions: int = 20) -> Pools:
        """The pool of each controller.

        Args:
            decisions: the latest of each, at most.
        """
        answer = await self._json("GET", "pool", params={"decisions": str(decisions)})
        return cast("Pools", answer)
