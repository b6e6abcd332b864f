"""A controller that answers nothing, or has nothing to answer with, beside one that does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from grpclib import GRPCError, Status
from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.rpc.balancer import choose_by_key
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.server import RpcServer
from sanfran_proto.sanfran import v1 as pb
from sanfran_router import control
from sanfran_router.control import ControllerLink
from sanfran_router.errors import Refusal
from sanfran_router.table import Table


class Controller(pb.ControllerBase):
    def __init__(self, name: str) -> None:
        self.name = name
        self.hangs = False
        self.barren = False
        self.asked = 0
        self.reports = 0

    async def activate(self, message: pb.ActivateFunctionRequest) -> pb.Route:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.barren:
            raise GRPCError(Status.ABORTED, "no pod is here, and none can be had")
        return pb.Route(name=message.name, version=1, sequence=1, controller=self.name)

    async def report_load(self, message: pb.LoadReport) -> pb.LoadReportResponse:
        self.reports += 1
        if self.hangs:
            await asyncio.Event().wait()
        return pb.LoadReportResponse()

    async def watch_routes(self, message: pb.WatchRoutesRequest) -> AsyncIterator[pb.RouteEvent]:
        yield pb.RouteEvent(synced=pb.RoutesSynced(controller=self.name))


async def test_cold_requests_of_a_controller_that_hangs_go_to_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "REPORT_EVERY", 0.05)
    monkeypatch.setattr(control, "REPORT_TIMEOUT", 0.2)
    monkeypatch.setattr(control, "ANSWER_PATIENCE", 0.4)
    controllers = {f"unix:{folder}/{name}": Controller(name) for name in ("one", "two")}
    home = choose_by_key("cold", controllers)
    [other] = [one for address, one in controllers.items() if address != home]
    async with (
        RpcServer([controllers[home]], home),
        RpcServer([other], f"unix:{folder}/{other.name}"),
        RpcClient(",".join(controllers)) as client,
    ):
        link = ControllerLink(client, Table(), "router-1")
        assert (await link.ask("cold", False, False, 5.0)).controller == controllers[home].name
        controllers[home].hangs = True
        # Its health is served on here, so it is taken back between two reports, and left out again.
        async with OwnedTasks("router") as tasks:
            tasks.loop(link.report(), name="report load")
            assert (await link.ask("cold", False, False, 5.0)).controller == other.name
        assert controllers[home].asked > 1
        assert other.reports


async def test_a_question_that_takes_long_is_put_again_to_the_same_controller(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "ANSWER_PATIENCE", 0.1)
    only = Controller("only")
    only.hangs = True
    address = f"unix:{folder}/only"
    async with RpcServer([only], address), RpcClient(address) as client:
        link = ControllerLink(client, Table(), "router-1")
        asked = asyncio.create_task(link.ask("cold", False, False, 5.0))
        while only.asked < 2:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        only.hangs = False
        assert (await asked).controller == "only"


async def test_a_controller_that_can_get_no_pod_is_passed_over_at_once(folder: Path) -> None:
    controllers = {f"unix:{folder}/{name}": Controller(name) for name in ("one", "two", "three")}
    home = controllers[choose_by_key("cold", controllers)]
    async with AsyncExitStack() as stack:
        for address, one in controllers.items():
            await stack.enter_async_context(RpcServer([one], address))
        client = await stack.enter_async_context(RpcClient(",".join(controllers)))
        link = ControllerLink(client, Table(), "router-1")
        home.barren = True
        others = [one for one in controllers.values() if one is not home]
        second = (await link.ask("cold", False, False, 5.0)).controller
        assert second in {one.name for one in others}
        assert (await link.ask("cold", True, False, 5.0)).controller == second  # by rank
        assert home.asked == 2

        # Where none has any, one of them may have one soon.
        for one in others:
            one.barren = True
        with pytest.raises(Refusal):
            await link.ask("cold", False, False, 0.3)
        asking = asyncio.create_task(link.ask("cold", False, False, 5.0))
        await asyncio.sleep(0.15)
        home.barren = False
        assert (await asking).controller == home.name


async def test_who_waited_for_a_pod_when_its_controller_stopped_waits_for_the_next_controller(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "ANSWER_PATIENCE", 0.2)
    monkeypatch.setattr(control, "ABSENCE_PATIENCE", 0.6)
    only, address = Controller("only"), f"unix:{folder}/only"
    only.hangs = True
    async with RpcClient(address) as client:
        link = ControllerLink(client, Table(), "router-1")
        async with RpcServer([only], address):
            asking = asyncio.create_task(link.ask("cold", False, False, 5.0))
            await asyncio.sleep(0.8)  # for longer than an absence is waited out
        await asyncio.sleep(0.2)
        only.hangs = False
        async with RpcServer([only], address):
            assert (await asking).controller == "only"
