"""Calls about the store as a whole."""

from __future__ import annotations

from typing import cast

from sanfran_cli.client.answers import Rotated
from sanfran_cli.client.connection import Connection


class StoreCalls(Connection):
    """What the service keeps."""

    async def rotate_secrets(self) -> Rotated:
        """Has the service read its file of keys again and encrypt every secret with the first one."""
        return cast("Rotated", await self._json("POST", "secrets/rotate"))
