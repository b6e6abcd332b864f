"""The access log: one JSON line on stdout per request that names a function."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sanfran_router.exchange import Exchange


def write_access_line(exchange: Exchange) -> None:
    """To be given to `DataPlane`. Status 0: the client left before the answer began."""
    request = exchange.request
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "request_id": request.request_id.decode("latin-1"),
        "peer": exchange.client.peer,
        "method": request.method.decode("latin-1"),
        "target": request.target.decode("latin-1"),
        "function": exchange.function.name,
        "version": exchange.function.version,
        "status": exchange.status,
        "ms": round((time.monotonic() - exchange.began) * 1000, 3),
        "cold": exchange.cold,
    }
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
