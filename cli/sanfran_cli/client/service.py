"""Calls about the service itself and the engine behind it."""

from __future__ import annotations

from typing import cast

from sanfran_cli.client.answers import Pools, ServiceInfo
from sanfran_cli.client.connection import Connection


class ServiceCalls(Connection):
    """What holds for all functions."""

    async def info(self) -> ServiceInfo:
        """What the service says about itself, its functions' public URL above all."""
        return cast("ServiceInfo", await self._json("GET", ""))

    async def pool(self, *, decisions: int = 20) -> Pools:
        """The pool of each controller.

        Args:
            decisions: the latest of each, at most.
        """
        answer = await self._json("GET", "pool", params={"decisions": str(decisions)})
        return cast("Pools", answer)
