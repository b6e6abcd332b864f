"""Follows all objects of a kind: list, then watch from there, for ever.

A watch that ends goes on from the last version that was seen, bookmarks included. The server forgets versions after some
minutes and says 410: then everything is listed anew. One that says nothing for longer than between two bookmarks is dead.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from sanfran_common.telemetry.logs import get_logger

from sanfran_controller import metrics
from sanfran_controller.providers.kubernetes.api import ApiError, KubeApi, Object
from sanfran_controller.providers.kubernetes.calls import Kind

log = get_logger("kubernetes")

SILENCE = 90.0
"""Seconds; the API server sends a bookmark about every minute."""
AGAIN_FIRST, AGAIN_MOST = 0.05, 5.0
SETTLED = 5.0
"""Seconds after which a watch that ends was a good one."""
GONE = 410


@dataclass(frozen=True, slots=True)
class Listed:
    """All there are; what was known and is not among them is gone."""

    objects: list[Object]


@dataclass(frozen=True, slots=True)
class Changed:
    """One is new, or changed."""

    object: Object


@dataclass(frozen=True, slots=True)
class Removed:
    """One is gone; this was its last state."""

    object: Object


async def follow(
    api: KubeApi, kind: Kind, selector: str, *, silence: float = SILENCE
) -> AsyncGenerator[Listed | Changed | Removed]:
    """Yields `Listed`, then changes; after 410 `Listed` again.

    Args:
        selector: of labels.
        silence: seconds; see `KubeApi.watch`.
    """
    version = ""
    pause = AGAIN_FIRST
    while True:
        began = time.monotonic()
        asked = 0.0
        try:
            if not version:
                objects, version = await api.list_all(kind, selector)
                yield Listed(objects)
            async with aclosing(api.watch(kind, selector, version, silence)) as events:
                async for event in events:
                    told = event.get("object") or {}
                    match event.get("type"):
                        case "ADDED" | "MODIFIED":
                            version = told["metadata"]["resourceVersion"]
                            yield Changed(told)
                        case "DELETED":
                            version = told["metadata"]["resourceVersion"]
                            yield Removed(told)
                        case "BOOKMARK":
                            version = told["metadata"]["resourceVersion"]
                        case _:
                            code = told.get("code") or 0
                            raise ApiError(code, told.get("reason", ""), told.get("message", ""))
            why = "the server ended it"
        except ApiError as error:
            why, asked = str(error), error.retry_after
            if error.status == GONE:
                version = ""
        metrics.WATCHES.labels(kind.plural, "relist" if not version else "resume").inc()
        if time.monotonic() - began >= SETTLED:
            pause = AGAIN_FIRST
        log.debug("watch ended", kind=kind.plural, why=why, pause=pause)
        await asyncio.sleep(max(pause * random.uniform(0.75, 1.25), asked))
        pause = min(pause * 2, AGAIN_MOST)
