"""Reading a server's stream so that it ends when its reader does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar, cast

T = TypeVar("T")


@asynccontextmanager
async def reading(stream: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Closes the stream of a generated stub at the end of the block.

    Stubs return async generators typed as plain iterators. One that is left in the middle would live,
    and keep its call open, until it is collected as garbage.
    """
    try:
        yield stream
    finally:
        await cast("AsyncGenerator[T]", stream).aclose()
