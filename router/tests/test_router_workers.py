"""The router's processes: many workers on one port, started, killed, stopped."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections import Counter

import psutil
import pytest

from router.tests.supervised import (
    GET,
    LAST_GET,
    PodConnection,
    World,
    ended,
    exchange,
    router,
    serving,
)


async def test_all_workers_share_the_port_and_one_scrape_tells_of_all(world: World) -> None:
    await serving(world)
    async with router(world, "--workers", "3") as it:
        for _ in range(2):  # no more at once than the pod's listen queue takes
            answers = await asyncio.gather(*(it.ask() for _ in range(60)))
            assert [one for one in answers if not one.endswith(b"\r\n\r\nok")] == []
        connections = [await it.connect() for _ in range(60)]
        await asyncio.gather(*(exchange(*one) for one in connections))
        served: Counter[str] = Counter()  # by worker, as each tells the controllers
        while sum(served.values()) < 180:
            report = await world.controller.reports.get()
            served[report.router] += sum(one.requests for one in report.functions)
        assert len(served) == 3
        assert min(served.values()) > 9
        metrics = await it.metrics()
        assert metrics['sanfran_router_requests_total{function="hello",status="2xx"}'] == 180
        assert metrics['sanfran_router_request_seconds_count{function="hello"}'] == 180
        assert metrics["sanfran_router_connections"] == 60
        assert metrics["sanfran_router_functions"] == 1
        assert metrics["sanfran_router_workers"] == 3
        assert metrics["sanfran_router_worker_restarts_total"] == 0
        for _, writer in connections:
            writer.close()


async def test_workers_of_a_killed_supervisor_let_go_of_the_port_and_finish(world: World) -> None:
    go = asyncio.Event()

    async def slow(pod: PodConnection) -> None:
        await go.wait()
        pod.send(world.ok)

    pod = await serving(world, slow)
    async with router(world, "--workers", "2", "--stop-grace", "10") as it:
        running = asyncio.create_task(it.ask())
        await world.seen(lambda: pod.heads)
        orphans = psutil.Process(it.process.pid).children()
        it.process.kill()
        await it.process.wait()
        async with router(world, listen=it.http) as heir:
            assert heir.http == it.http
            go.set()
            assert (await running).endswith(b"ok")
            assert (await it.ask()).endswith(b"ok")
        await ended(world, orphans)


async def test_a_second_signal_takes_the_workers_with_it(world: World) -> None:
    async def forever(pod: PodConnection) -> None:
        await asyncio.Event().wait()

    pod = await serving(world, forever)
    async with router(world, "--stop-grace", "60") as it:
        reader, writer = await it.connect()
        writer.write(GET)
        await world.seen(lambda: pod.heads)
        workers = psutil.Process(it.process.pid).children()
        it.process.terminate()
        await world.seen(lambda: not can_connect(it.http))
        it.process.terminate()
        assert await it.process.wait() == 130
        await ended(world, workers)
        assert await reader.read() == b""
        writer.close()


def can_connect(address: str) -> bool:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port))).close()
    except ConnectionError:
        return False
    return True


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_second_router_on_the_port_is_refused_with_what_would_work(
    world: World, workers: str
) -> None:
    await serving(world)
    async with router(world, "--workers", workers) as it:
        command = [sys.executable, "-m", "sanfran_router.main", "--workers", workers]
        refused = await asyncio.create_subprocess_exec(
            *command, "--listen", it.http, stderr=asyncio.subprocess.PIPE
        )
        _, said = await refused.communicate()
        assert refused.returncode == 1
        assert f"--listen {it.http}: something listens there already; try" in said.decode()
        assert (await it.ask()).endswith(b"ok")


def test_a_router_needs_a_worker() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "sanfran_router.main", "--workers", "0"],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 2
    assert "--workers: '0' is not a whole number from 1; try" in ended.stderr


async def test_a_taken_admin_address_is_named_and_no_worker_is_left(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = ("--listen", "127.0.0.1:0", "--admin", address)
        refused = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sanfran_router.main", *flags), stderr=asyncio.subprocess.PIPE
        )
        _, said = await refused.communicate()  # also the workers' end of the pipe is closed
    assert refused.returncode == 1
    assert f"--admin {address}" in said.decode()


async def test_a_full_stdout_stops_no_request_and_costs_whole_lines(world: World) -> None:
    await serving(world)
    target = b"/fn/hello?" + b"x" * 8000
    line = LAST_GET.replace(b"/fn/hello", target)
    ours, theirs = os.pipe()
    try:
        async with router(world, "--workers", "2", "--access-log", stdout=theirs) as it:
            # Nobody reads: the pipe takes 64 KB, each worker keeps a MB and its last line.
            for _ in range(70):
                answers = await asyncio.gather(*(it.ask(line) for _ in range(50)))
                assert all(answer.endswith(b"ok") for answer in answers)
            dropped = (await it.metrics())["sanfran_router_access_log_dropped_total"]
            assert dropped > 0
            os.close(theirs)
            theirs = -1
            reading = asyncio.create_task(asyncio.to_thread(read_all, ours))
            it.process.terminate()
            assert await it.process.wait() == 0
            lines = (await reading).splitlines()
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)
    entries = [json.loads(one) for one in lines]
    assert len(entries) == 3500 - dropped
    assert {entry["status"] for entry in entries} == {200}
    assert all(entry["target"].endswith("x…") for entry in entries)


def read_all(fd: int) -> bytes:
    """What a pipe has until all of its writers are gone."""
    got = b""
    while piece := os.read(fd, 65536):
        got += piece
    return got
