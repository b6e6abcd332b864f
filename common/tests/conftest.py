"""Which event loops the tests run on: TLS is each loop's own."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

BOTH = "test_common_rpc_tls"


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Services run on uvloop; asyncio's own shows what rests on it."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if BOTH in item.nodeid:
        loops["uvloop"] = uvloop.new_event_loop
    return loops
