"""Whether somebody may invoke a private function: what routers ask."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from sanfran_proto.sanfran import v1 as pb

from sanfran_api.access.audit import Audit, Entry
from sanfran_api.access.errors import Forbidden, TooManyFailures, Unauthenticated
from sanfran_api.access.gate import Gate
from sanfran_api.access.privileges import Privilege
from sanfran_api.names import shorten

MAY_SECONDS = 10.0
MAY_NOT_SECONDS = 2.0
"""How long a router keeps an answer: so late it learns of a privilege that was taken, or given."""


class Invocations:
    """Answers routers.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, gate: Gate, audit: Audit, *, clock: Callable[[], float] = time.time) -> None:
        self._gate = gate
        self._audit = audit
        self._clock = clock

    async def authorize(self, asked: pb.AuthorizeRequest) -> pb.AuthorizeResponse:
        """Whether they may; raises `Busy` and `KeysMissing`, when that cannot be told right now."""
        entry = Entry(
            "invoke",
            via="router",
            address=asked.address,
            changes=False,
            request_id=asked.request_id,
        )
        entry.function = shorten(asked.function)
        try:
            if self._gate.open:
                raise Forbidden(
                    "private functions need an api service that asks who calls: --auth basic"
                )
            admitted = await self._gate.admit(asked.authorization, asked.address)
            entry.user, entry.admitted = admitted.caller.name, True
            admitted.caller.check(Privilege.INVOKE, asked.function)
        except (Unauthenticated, Forbidden, TooManyFailures) as error:
            await self._audit.write(entry, "refused", error.code)
            return pb.AuthorizeResponse(
                status=error.http_status,
                code=error.code,
                message=error.message,
                ttl_ms=int(MAY_NOT_SECONDS * 1000),
                challenges=list(error.challenges) if isinstance(error, Unauthenticated) else [],
                retry_after=(
                    math.ceil(error.retry_after) if isinstance(error, TooManyFailures) else 0
                ),
            )
        seconds = MAY_SECONDS
        if admitted.expires_at is not None:
            seconds = max(0.0, min(seconds, admitted.expires_at - self._clock()))
        return pb.AuthorizeResponse(
            status=200, user=admitted.caller.name, ttl_ms=int(seconds * 1000)
        )
