"""Small bundles, kept to travel inside `Sidecar.Activate`: a cold call without a fetch.

A convenience and nothing else: what is not here, or not yet, the sidecar fetches itself.
"""

from __future__ import annotations

from collections import OrderedDict

from grpclib import GRPCError
from sanfran_common.lifecycle import TaskOwner
from sanfran_common.rpc.client import RpcClient
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

log = get_logger("bundles")

SMALL = 32 << 10
"""Bytes of a bundle that may travel inside a call: most functions that are one file, and what the
sidecar unpacks without a thread. See docs/decisions/0004."""
FETCHES_MOST = 64
"""Fetches under way at once; what comes beyond is not kept, and fetched after its first activation."""
FETCH_TIMEOUT = 5.0


class SmallBundles(TaskOwner):
    """A least-recently-used store in memory. Fetches while its `async with` lasts.

    Args:
        client: of the api service; whoever made it closes it.
        most: bytes kept; 0 keeps none.
    """

    def __init__(self, client: RpcClient, *, most: int) -> None:
        super().__init__("small bundles")
        self._api = pb.ApiStub(client.channel)
        self._most = most
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._fetching: set[str] = set()

    def get(self, digest: str) -> bytes:
        """The bundle; empty when it is not here."""
        found = self._kept.get(digest, b"")
        if found:
            self._kept.move_to_end(digest)
        return found

    def want(self, version: pb.FunctionVersion) -> None:
        """Fetches the version's bundle in the background, if it is small and not here."""
        digest = version.digest
        if (
            0 < version.bundle_bytes <= min(SMALL, self._most)
            and digest not in self._kept
            and digest not in self._fetching
            and len(self._fetching) < FETCHES_MOST
        ):
            self._fetching.add(digest)
            self._tasks.spawn(self._fetch(digest), name=f"fetch {digest}")

    async def _fetch(self, digest: str) -> None:
        request = pb.FetchBundleRequest(digest=digest)
        try:
            chunks = self._api.fetch_bundle(request, timeout=FETCH_TIMEOUT)
            self._keep(digest, b"".join([chunk.data async for chunk in chunks]))
        except GRPCError as error:
            log.info(
                "bundle not fetched", digest=digest, why=f"{error.status.name} {error.message}"
            )
        finally:
            self._fetching.discard(digest)

    def _keep(self, digest: str, bundle: bytes) -> None:
        self._kept[digest] = bundle
        self._size += len(bundle)
        while self._size > self._most:
            _, gone = self._kept.popitem(last=False)
            self._size -= len(gone)
