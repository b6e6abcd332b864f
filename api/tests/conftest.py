"""The service in this process, over real sockets and a real store."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard
from sanfran_api.config import ApiConfig
from sanfran_api.main import serve
from sanfran_api.store.store import Store
from sanfran_common.lifecycle import Lifecycle
from sanfran_common.rpc.client import RpcClient
from sanfran_proto.sanfran import v1 as pb

from api.tests.stores import opened

HELLO = b"module.exports = (req, res) => res.send('hello')\n"


class ListeningLifecycle(Lifecycle):
    """Tells the test, as well as the parent process, where the service listens."""

    def __init__(self) -> None:
        super().__init__()
        self.up = asyncio.Event()
        self.addresses: Mapping[str, str] = {}

    def ready(self, **addresses: str) -> None:
        super().ready(**addresses)
        self.addresses = addresses
        self.up.set()


@dataclass
class Api:
    """A running service and its clients."""

    http: httpx.AsyncClient
    rpc: RpcClient
    stub: pb.ApiStub
    life: ListeningLifecycle
    names: int = field(default=0)

    async def create(self, name: str, code: bytes = HELLO, **settings: Any) -> httpx.Response:
        form = {"name": name, "settings": _json(settings)} if settings else {"name": name}
        files = {"file": ("hello.js", code)}
        return await self.http.post("functions", data=form, files=files)

    async def update(
        self, name: str, code: bytes | None = None, settings: dict[str, Any] | None = None
    ) -> httpx.Response:
        parts: list[tuple[str, Any]] = []
        if code is not None:
            parts.append(("file", ("hello.js", code)))
        if settings is not None:
            parts.append(("settings", (None, _json(settings))))
        return await self.http.put(f"functions/{name}", files=parts)

    async def bundle(self, digest: str) -> bytes:
        request = pb.FetchBundleRequest(digest=digest)
        content = b"".join([chunk.data async for chunk in self.stub.fetch_bundle(request)])
        return zstandard.ZstdDecompressor().decompressobj().decompress(content)


def _json(value: object) -> str:
    import json

    return json.dumps(value)


RunApi = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture
def run_api(tmp_path: Path) -> RunApi:
    """Starts services, each in its own `async with`; by default on one data folder."""

    @asynccontextmanager
    async def running(data: Path = tmp_path / "data", **settings: Any) -> AsyncIterator[Api]:
        defaults = {"listen": "127.0.0.1:0", "rpc_listen": "127.0.0.1:0", "stop_grace": 1.0}
        config = ApiConfig(data=data, **{**defaults, **settings})
        life = ListeningLifecycle()
        service = asyncio.create_task(serve(config, life))
        up = asyncio.create_task(life.up.wait())
        await asyncio.wait({service, up}, return_when=asyncio.FIRST_COMPLETED)
        if service.done():
            up.cancel()
            service.result()
        url = f"http://{life.addresses['http']}/api/v1/"
        try:
            async with (
                httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as http,
                RpcClient(life.addresses["rpc"], secret=config.rpc_secret) as rpc,
            ):
                yield Api(http, rpc, pb.ApiStub(rpc.channel), life)
        finally:
            life.request_stop("the test ends")
            await service

    return running


@pytest.fixture
async def api(run_api: RunApi) -> AsyncIterator[Api]:
    async with run_api() as running:
        yield running


@pytest.fixture
async def quick(run_api: RunApi) -> AsyncIterator[Api]:
    """One that waits for watchers a moment only."""
    async with run_api(apply_timeout=0.1) as running:
        yield running


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path) as made:
        yield made
