"""A controller as a process would run it, in a simulated world."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sanfran_common.lifecycle import Lifecycle, OwnedTasks
from sanfran_common.rpc.client import RpcClient
from sanfran_controller.config import ControllerConfig
from sanfran_controller.main import serve
from sanfran_proto.sanfran import v1 as pb

from controller.tests.simulated import PATIENCE, Changes, SimApi, SimHost


class Life(Lifecycle):
    """Keeps what a parent process would be told."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: dict[str, str] = {}
        self.told = asyncio.Event()

    def ready(self, **addresses: str) -> None:
        super().ready(**addresses)
        self.addresses = addresses
        self.told.set()


class Client:
    """What a router sees of a controller."""

    def __init__(self, client: RpcClient) -> None:
        self.stub = pb.ControllerStub(client.channel)
        self.routes: dict[str, pb.Route] = {}
        self.seen: list[pb.Route] = []
        self.synced = asyncio.Event()
        self.changes = Changes()

    async def activate(self, name: str, *, saturated: bool = False) -> pb.Route:
        request = pb.ActivateFunctionRequest(name=name, router="r1", saturated=saturated)
        return await self.stub.activate(request, timeout=PATIENCE)

    async def report(self, name: str, in_flight: int, queued: int = 0) -> None:
        load = pb.FunctionLoad(
            name=name,
            in_flight=in_flight,
            queued=queued,
            requests=in_flight,
            peak_in_flight=in_flight + queued,
        )
        await self.stub.report_load(pb.LoadReport(router="r1", functions=[load]), timeout=PATIENCE)

    async def status(self, name: str) -> pb.FunctionStatus:
        return await self.stub.get_status(pb.GetStatusRequest(name=name), timeout=PATIENCE)

    async def watch(self) -> None:
        async for event in self.stub.watch_routes(pb.WatchRoutesRequest(router="r1")):
            if event.route is not None:
                self.routes[event.route.name] = event.route
                self.seen.append(event.route)
            else:
                self.synced.set()
            self.changes.tell()

    async def until(self, true: Callable[[], Any]) -> Any:
        return await self.changes.until(true)


class World:
    """A pod host, an api service, and controllers on demand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = SimHost(folder)
        self.api = SimApi(folder)

    @asynccontextmanager
    async def controller(self, **settings: Any) -> AsyncIterator[Client]:
        """A controller, ready, and a router's client to it."""
        config = ControllerConfig(
            **{
                "rpc_listen": f"unix:{self.folder}/controller",
                "api": self.api.address,
                "pods": self.host.address,
                "pool_size": 2,
                "sync_patience": 2.0,
                "stop_grace": 0.1,
                **settings,
            }
        )
        life = Life()
        async with OwnedTasks("test") as tasks:
            service = tasks.spawn(serve(config, life), name="controller")
            async with AsyncExitStack() as stack:
                stack.callback(life.request_stop, "test over")
                async with asyncio.timeout(PATIENCE):
                    await life.told.wait()
                rpc = await stack.enter_async_context(RpcClient(str(config.rpc_listen)))
                client = Client(rpc)
                watching = tasks.spawn(client.watch(), name="watch routes")
                stack.callback(watching.cancel)
                await client.synced.wait()
                yield client
            async with asyncio.timeout(PATIENCE):
                await service


@pytest.fixture
async def world() -> AsyncIterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="sf-"))  # short: Unix sockets' paths are limited
    world = World(folder)
    before = asyncio.all_tasks()
    await world.host.start()
    await world.api.start()
    try:
        yield world
    finally:
        await world.host.stop()
        await world.api.stop()
        shutil.rmtree(folder)
    for _ in range(3):
        await asyncio.sleep(0)
    mine = {asyncio.current_task(), *before}
    left = [task for task in asyncio.all_tasks() - mine if not task.done()]
    assert not left, left
