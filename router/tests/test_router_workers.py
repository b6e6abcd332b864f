"""The router's processes: many workers on one port, replaced under load, killed, stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

World = Any
PodConnection = Any

GET = b"GET /fn/hello HTTP/1.1\r\nHost: a\r\n\r\n"
LAST_GET = b"GET /fn/hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Router:
    """A running supervisor with its workers."""

    def __init__(self, process: asyncio.subprocess.Process, told: dict[str, str]) -> None:
        self.process = process
        self.http = told["X_SANFRAN_HTTP"]
        self.admin = told["X_SANFRAN_ADMIN"]

    @property
    def workers(self) -> list[int]:
        """Process ids."""
        return [one.pid for one in psutil.Process(self.process.pid).children()]

    async def connect(self, address: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = (address or self.http).split(":")
        return await asyncio.open_connection(host, int(port))

    async def ask(self, raw: bytes = LAST_GET, address: str = "") -> bytes:
        """What comes until the connection is closed."""
        reader, writer = await self.connect(address)
        writer.write(raw)
        answer = await reader.read()
        writer.close()
        return answer

    async def metrics(self) -> dict[str, float]:
        """Values by series."""
        raw = await self.ask(b"GET /metrics HTTP/1.0\r\n\r\n", self.admin)
        lines = raw.partition(b"\r\n\r\n")[2].decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    async def replaced(self, world: World, former: list[int]) -> None:
        """Waits until none of these workers is left, and as many others serve."""
        await world.seen(lambda: not set(former) & set(self.workers))
        await world.seen(lambda: len(self.workers) == len(former))


@asynccontextmanager
async def router(
    world: World, *flags: str, listen: str = "127.0.0.1:0", **streams: int
) -> AsyncIterator[Router]:
    """A ready router. Its workers end with it, also when the test has failed."""
    path = f"{world.folder}/notify-{listen.rpartition(':')[2]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.setblocking(False)
        command = [sys.executable, "-m", "sanfran_router.main", "--listen", listen]
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--controllers", world.rpc_address, *flags),
            env={**os.environ, "NOTIFY_SOCKET": path},
            **streams,
        )
        try:
            message = await asyncio.get_running_loop().sock_recv(notify, 4096)
            yield Router(
                process, dict(line.split("=", 1) for line in message.decode().splitlines())
            )
        finally:
            if process.returncode is None:
                workers = psutil.Process(process.pid).children()
                process.kill()
                # Without their supervisor they end by themselves.
                await ended(world, workers)
            await process.communicate()


async def ended(world: World, processes: list[psutil.Process]) -> None:
    await world.seen(lambda: not any(one.is_running() for one in processes))


async def serving(world: World, handler: Any = None) -> Any:
    pod = await (world.pod(handler) if handler else world.pod())
    world.controller.route(pod, concurrency=1000)
    await world.start_controller()
    return pod


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


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """One request on a kept connection; returns the answer's head."""
    writer.write(GET)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    assert await reader.readexactly(2) == b"ok"
    return head


class Load:
    """Clients of all kinds, whose every request must succeed."""

    def __init__(self, it: Router) -> None:
        self.it = it
        self.served = 0
        self._over = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        clients = [self._kept() for _ in range(6)] + [self._single() for _ in range(4)]
        self._tasks = [asyncio.create_task(one) for one in clients]

    async def more(self, count: int, world: World) -> None:
        """Returns when so many more requests were served."""
        goal = self.served + count
        await world.seen(lambda: self.served >= goal or any(one.done() for one in self._tasks))
        assert not any(one.done() for one in self._tasks), await asyncio.gather(*self._tasks)

    async def finish(self) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)

    async def _kept(self) -> None:
        while not self._over:
            reader, writer = await self.it.connect()
            while not self._over:
                head = await exchange(reader, writer)
                self.served += 1
                if b"Connection: close" in head:
                    assert await reader.read() == b""
                    break
            writer.close()

    async def _single(self) -> None:
        post = (
            b"POST /fn/hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\n"
        )
        while not self._over:
            assert (await self.it.ask(post + b"some body")).endswith(b"\r\n\r\nok")
            self.served += 1


async def test_sighup_replaces_every_worker_and_fails_no_request(world: World) -> None:
    go, begun = asyncio.Event(), asyncio.Event()

    async def handler(pod: PodConnection) -> None:
        head = pod.head
        body = await pod.body()
        if b"/events" in head:
            pod.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
            begun.set()
            await go.wait()
            pod.send(b"data: 2\n\n")
            pod.writer.close()
            return
        if b"/long" in head:
            await go.wait()
        pod.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%b" % (body[:0] or b"ok"))

    await serving(world, handler)
    async with router(world, "--workers", "2") as it:
        load = Load(it)
        load.start()
        await load.more(100, world)
        idle = [await it.connect() for _ in range(8)]
        for one in idle:
            await exchange(*one)
        events = asyncio.create_task(it.ask(GET.replace(b"/hello", b"/hello/events")))
        long = asyncio.create_task(it.ask(LAST_GET.replace(b"/hello", b"/hello/long")))
        upload_reader, upload = await it.connect()
        upload.write(
            b"POST /fn/hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            b"Content-Length: 400000\r\n\r\n" + b"x" * 1000
        )
        await begun.wait()
        counted = (await it.metrics())[_SERVED]
        answered = 8 + 8 + 3  # besides the load
        former = it.workers
        it.process.send_signal(signal.SIGHUP)
        # Two new workers besides the old ones, which wait for what runs and for idle connections.
        await world.seen(lambda: len(it.workers) == 4)
        await load.more(300, world)
        assert set(former) < set(it.workers)
        for one in idle:  # answered by the old workers, for the last time when they retire
            while b"Connection: close" not in await exchange(*one):
                answered += 1
        assert [await reader.read() for reader, _ in idle] == [b""] * 8
        upload.write(b"x" * 399_000)
        assert (await upload_reader.read()).endswith(b"\r\n\r\nok")
        go.set()
        assert (await events).endswith(b"data: 1\n\ndata: 2\n\n")
        assert (await long).endswith(b"\r\n\r\nok")
        await it.replaced(world, former)
        await load.more(100, world)
        await load.finish()
        metrics = await it.metrics()
        assert metrics[_SERVED] == load.served + answered > counted
        assert metrics["sanfran_router_worker_restarts_total"] == 0
        for _, writer in (*idle, (upload_reader, upload)):
            writer.close()


_SERVED = 'sanfran_router_requests_total{function="hello",status="2xx"}'


async def test_a_sighup_during_a_replacement_is_not_forgotten(world: World) -> None:
    await serving(world)
    async with router(world) as it:
        first = it.workers
        it.process.send_signal(signal.SIGHUP)
        await world.seen(lambda: len(it.workers) == 2)
        second = [pid for pid in it.workers if pid not in first]
        it.process.send_signal(signal.SIGHUP)
        await world.seen(lambda: not set(first + second) & set(it.workers) and it.workers)
        assert (await it.ask()).endswith(b"ok")
        assert len(it.workers) == 1


async def test_without_a_controller_the_old_workers_are_kept(world: World) -> None:
    await serving(world)
    async with router(world, stderr=asyncio.subprocess.PIPE) as it:
        former = it.workers
        await world.stop_controller()
        it.process.send_signal(signal.SIGHUP)
        await world.seen(lambda: len(it.workers) == 2)
        [fresh] = set(it.workers) - set(former)
        assert (await it.ask()).endswith(b"ok")  # its routes it still knows
        os.kill(fresh, signal.SIGKILL)
        assert it.process.stderr is not None
        while b"old workers kept" not in (line := await it.process.stderr.readline()):
            assert line
        assert it.workers == former
        assert (await it.ask()).endswith(b"ok")


async def test_a_worker_that_is_killed_is_replaced_and_refuses_nobody(world: World) -> None:
    await serving(world)
    async with router(world, "--workers", "2") as it:
        former = it.workers

        async def ask_on(count: int) -> None:
            for _ in range(count):
                reader, writer = await it.connect()  # never refused
                try:
                    # What the dead one had taken is lost; nothing that still waited is.
                    await exchange(reader, writer)
                except (ConnectionError, asyncio.IncompleteReadError):
                    lost.append(1)
                writer.close()

        lost: list[int] = []
        clients = [asyncio.create_task(ask_on(60)) for _ in range(4)]
        await asyncio.sleep(0.05)
        os.kill(former[0], signal.SIGKILL)
        await asyncio.gather(*clients)
        assert len(lost) <= len(clients)
        await world.seen(lambda: len(it.workers) == 2 and former[0] not in it.workers)
        assert former[1] in it.workers
        assert (await it.metrics())["sanfran_router_worker_restarts_total"] == 1
        ready = await it.ask(b"GET /readyz HTTP/1.0\r\n\r\n", it.admin)
        assert b" 200 " in ready


async def test_a_worker_that_hangs_is_killed_and_replaced(world: World) -> None:
    await serving(world)
    async with router(world) as it:
        former = it.workers
        os.kill(former[0], signal.SIGSTOP)
        waiting = asyncio.create_task(it.ask())
        await it.metrics()  # leaves it out
        await it.replaced(world, former)
        assert (await waiting).endswith(b"ok")  # it had not been accepted
        assert (await it.metrics())["sanfran_router_worker_restarts_total"] == 1


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
