"""Streams a bundle from the api service, as it is kept there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import IO, cast

from grpclib import GRPCError
from sanfran_proto.sanfran import v1 as pb

from sanfran_sidecar.errors import BundleUnavailable
from sanfran_sidecar.plain import most_packed


class GivenBundle:
    """A bundle that came with the order to run it."""

    def __init__(self, bundle: bytes) -> None:
        self._bundle = bundle

    async def fetch(self, digest: str, into: IO[bytes], limit: int) -> None:
        """Writes the bundle; see `ApiBundles.fetch`."""
        if len(self._bundle) > limit:
            raise BundleUnavailable(f"bundle {digest}: another one was given")
        into.write(self._bundle)


class ApiBundles:
    """Bundles as the api service has them.

    Args:
        api: a stub on a channel of its owner.
        timeout: seconds for one bundle, from the call to its last byte.
    """

    def __init__(self, api: pb.ApiStub, timeout: float) -> None:
        self._api = api
        self._timeout = timeout

    async def fetch(self, digest: str, into: IO[bytes], limit: int) -> None:
        """Writes the bundle of that digest, compressed as it may be. Whoever reads it checks what it is.

        Args:
            limit: bytes of the tar after which it cannot be what was announced.

        Raises:
            BundleUnavailable: the api does not answer, does not have it, or sends more than that.
            OSError: `into` takes no more.
        """
        size, most = 0, most_packed(limit)
        request = pb.FetchBundleRequest(digest=digest)
        try:
            async with (
                asyncio.timeout(self._timeout),
                aclosing(self._chunks(request)) as chunks,
            ):
                async for chunk in chunks:
                    size += len(chunk.data)
                    if size > most:
                        raise BundleUnavailable(f"bundle {digest}: more than {limit} bytes came")
                    into.write(chunk.data)
        except GRPCError as error:
            text = f"bundle {digest}: api says {error.status.name}: {error.message}"
            raise BundleUnavailable(text) from error
        except TimeoutError as error:
            text = f"bundle {digest}: not here after {self._timeout:g} s"
            raise BundleUnavailable(text) from error

    def _chunks(self, request: pb.FetchBundleRequest) -> AsyncGenerator[pb.BundleChunk, None]:
        # The stub says AsyncIterator, which cannot be closed early; it is a generator.
        chunks = self._api.fetch_bundle(request, timeout=self._timeout)
        return cast("AsyncGenerator[pb.BundleChunk, None]", chunks)
