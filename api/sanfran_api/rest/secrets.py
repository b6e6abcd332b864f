"""Routes about secrets as a whole."""

from __future__ import annotations

from fastapi import APIRouter

from sanfran_api.rest import models
from sanfran_api.rest.openapi import PREFIX, errors
from sanfran_api.store.store import Store


def secret_routes(store: Store) -> APIRouter:
    """`/api/v1/secrets`."""
    routes = APIRouter(prefix=f"{PREFIX}/secrets", tags=["store"])

    @routes.post("/rotate", operation_id="rotateSecrets", responses=errors(409, 503, 507))
    async def rotate() -> models.Rotated:
        """Reads the file of keys again and encrypts every secret anew with its first key. A service
        that made its key itself makes a new one first. Interrupted and repeated it does what is left."""
        done = await store.rotate()
        return models.Rotated(rotated=done.rotated, key=done.key.hex())

    return routes
