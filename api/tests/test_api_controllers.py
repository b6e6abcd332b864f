"""Status and logs: asked of every controller, put together."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from grpclib import GRPCError, Status
from sanfran_common.rpc.server import RpcServer
from sanfran_proto.sanfran import v1 as pb


class Controller(pb.ControllerBase):
    """Answers as a controller with one pod does."""

    def __init__(self, pod: str) -> None:
        self.pod = pod
        self.live: asyncio.Queue[str] = asyncio.Queue()
        self.asked: list[pb.StreamLogsRequest] = []
        self.left = asyncio.Event()
        self.unknown = False

    async def get_status(self, message: pb.GetStatusRequest) -> pb.FunctionStatus:
        if self.unknown:
            raise GRPCError(Status.NOT_FOUND, "no")
        pods = [pb.PodStatus(pod=self.pod, state="active", version=1, address="127.0.0.1:1")]
        error = "boom" if self.pod == "b" else ""
        return pb.FunctionStatus(name=message.name, pods=pods, load_error=error, activations=2)

    async def get_statuses(self, message: pb.GetStatusesRequest) -> pb.FunctionStatuses:
        at = 2 if self.pod == "b" else 1
        pods = [pb.PodStatus(pod=self.pod, state="active", version=1)]
        return pb.FunctionStatuses(
            [
                pb.FunctionStatus(
                    name=name,
                    pods=pods,
                    in_flight=5,
                    calls=7,
                    last_cold_ms=10 * at,
                    last_cold_at_ms=1000 * at,
                )
                for name in message.names
            ]
        )

    async def get_pool(self, message: pb.GetPoolRequest) -> pb.PoolStatus:
        decision = pb.Decision(time_ms=1000, kind="start", reason="below_target", pods=1)
        return pb.PoolStatus(
            controller=self.pod,
            target=3,
            pods={"generic": 3},
            decisions=[decision] * message.decisions,
        )

    async def stream_logs(self, message: pb.StreamLogsRequest) -> AsyncIterator[pb.LogLine]:
        self.asked.append(message)
        for number in range(3):
            at = number * 10 + (self.pod == "b")
            yield pb.LogLine(time_ms=at, level=pb.LogLevel.INFO, text=f"{at}", pod=self.pod)
        try:
            while message.follow:
                text = await self.live.get()
                yield pb.LogLine(
                    time_ms=99, level=pb.LogLevel.ERROR, text=text, pod=self.pod, version=7
                )
        finally:
            self.left.set()


@pytest.fixture
async def served() -> AsyncIterator[tuple[list[Controller], str, list[RpcServer]]]:
    controllers = [Controller("a"), Controller("b")]
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(RpcServer([one], "127.0.0.1:0")) for one in controllers
        ]
        yield controllers, ",".join(server.address for server in servers), servers


async def test_the_status_of_all_controllers_is_shown(run_api: Any, served: Any) -> None:
    controllers, addresses, _ = served
    async with run_api(controllers=addresses) as api:
        await api.create("f")
        status = (await api.http.get("functions/f")).json()["status"]
        assert [pod["pod"] for pod in status["pods"]] == ["a", "b"]
        assert (status["load_error"], status["activations"]) == ("boom", 4)
        for controller in controllers:
            controller.unknown = True
        status = (await api.http.get("functions/f")).json()["status"]
        assert (status["pods"], status["load_error"]) == ([], "")


async def test_a_controller_that_is_away_is_left_out(run_api: Any, served: Any) -> None:
    _, addresses, _ = served
    async with run_api(controllers=f"{addresses.split(',')[0]},127.0.0.1:1") as api:
        await api.create("f")
        shown = (await api.http.get("functions/f")).json()
        assert [pod["pod"] for pod in shown["status"]["pods"]] == ["a"]
        assert (await api.http.get("functions/f/logs")).text.count("\n") == 3
    async with run_api(controllers="127.0.0.1:1") as api:
        assert "status" not in (await api.http.get("functions/f")).json()


async def test_past_lines_are_merged_by_time(run_api: Any, served: Any) -> None:
    controllers, addresses, _ = served
    async with run_api(controllers=addresses) as api:
        await api.create("f")
        answer = await api.http.get("functions/f/logs")
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert [line["text"] for line in lines] == ["0", "1", "10", "11", "20", "21"]
        assert lines[0] == {
            "time": "1970-01-01T00:00:00.000Z",
            "level": "info",
            "text": "0",
            "pod": "a",
            "version": 0,
            "request_id": "",
        }
        last = await api.http.get("functions/f/logs?tail=2&format=text")
        assert last.headers["content-type"].startswith("text/plain")
        assert [line.split()[-1] for line in last.text.splitlines()] == ["20", "21"]
        assert controllers[0].asked[-1].tail == 2
        browser = await api.http.get("functions/f/logs", headers={"accept": "text/html,*/*"})
        assert browser.headers["content-type"].startswith("text/plain")


async def test_lines_are_followed_until_the_client_leaves(run_api: Any, served: Any) -> None:
    controllers, addresses, _ = served
    async with run_api(controllers=addresses) as api:
        await api.create("f")
        async with api.http.stream("GET", "functions/f/logs?follow=true") as answer:
            lines = answer.aiter_lines()
            past = sorted([json.loads(await anext(lines))["text"] for _ in range(6)])
            assert past == ["0", "1", "10", "11", "20", "21"]
            for controller in controllers[::-1]:
                await controller.live.put(f"from {controller.pod}")
                line = json.loads(await anext(lines))
                assert (line["text"], line["level"], line["version"]) == (
                    f"from {controller.pod}",
                    "error",
                    7,
                )
        async with asyncio.timeout(5):
            for controller in controllers:
                await controller.left.wait()


async def test_a_stop_ends_what_is_followed(run_api: Any, served: Any) -> None:
    _, addresses, _ = served
    async with run_api(controllers=addresses) as api:
        await api.create("f")
        async with api.http.stream("GET", "functions/f/logs?follow=true") as answer:
            lines = answer.aiter_lines()
            for _ in range(6):
                await anext(lines)
            api.life.request_stop("test")
            async with asyncio.timeout(0.9):  # less than the grace
                with pytest.raises(StopAsyncIteration):
                    await anext(lines)


@pytest.mark.parametrize("follow", ["true", "false"])
@pytest.mark.parametrize("addresses", ["", "127.0.0.1:1"])
async def test_without_controllers_logs_get_503(run_api: Any, follow: str, addresses: str) -> None:
    async with run_api(controllers=addresses) as api:
        await api.create("f")
        answer: httpx.Response = await api.http.get(f"functions/f/logs?follow={follow}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_controller")


async def test_a_controller_that_hangs_does_not_hide_what_the_other_knows(
    run_api: Any, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    controllers, addresses, _ = served
    monkeypatch.setattr("sanfran_api.controllers.PAST_LOGS_TIMEOUT", 0.2)
    monkeypatch.setattr(controllers[0], "stream_logs", _never)
    async with run_api(controllers=addresses) as api:
        await api.create("hello")
        answer = await api.http.get("functions/hello/logs", params={"format": "text"})
        assert answer.status_code == 200
        assert [line.split()[-1] for line in answer.text.splitlines()] == ["1", "11", "21"]


async def _never(message: pb.StreamLogsRequest) -> AsyncIterator[pb.LogLine]:
    await asyncio.Event().wait()
    yield pb.LogLine()


async def test_the_pool_of_each_controller_is_shown_and_who_is_silent(
    run_api: Any, served: Any
) -> None:
    _, addresses, _ = served
    async with run_api(controllers=f"{addresses},127.0.0.1:1") as api:
        shown = (await api.http.get("pool?decisions=1")).json()
        assert [one["controller"] for one in shown["controllers"]] == ["a", "b"]
        assert [one["address"] for one in shown["controllers"]] == addresses.split(",")
        assert shown["silent"] == ["127.0.0.1:1"]
        first = shown["controllers"][0]
        assert (first["target"], first["pods"]) == (3, {"generic": 3})
        assert first["decisions"][0]["time"] == "1970-01-01T00:00:01.000Z"
        assert len(first["decisions"]) == 1
        assert (await api.http.get("pool?decisions=-1")).status_code == 400
    async with run_api(controllers="127.0.0.1:1") as api:
        answer = await api.http.get("pool")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_controller")


async def test_the_list_says_what_becomes_of_each_when_asked(run_api: Any, served: Any) -> None:
    _, addresses, _ = served
    async with run_api(controllers=addresses) as api:
        await api.create("f")
        assert "status" not in (await api.http.get("functions")).json()["functions"][0]
        [shown] = (await api.http.get("functions?status=true")).json()["functions"]
        assert sorted(pod["pod"] for pod in shown["status"]["pods"]) == ["a", "b"]
        # Both controllers are told the same load by the same routers.
        assert (shown["status"]["in_flight"], shown["status"]["calls"]) == (5, 7)
        assert shown["status"]["last_cold_start"] == "1970-01-01T00:00:02.000Z"
        assert shown["status"]["last_cold_start_ms"] == 20
