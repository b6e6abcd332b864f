"""The router's workers, replaced under load and when they hang or die."""

from __future__ import annotations

import asyncio
import os
import signal

from router.tests.supervised import (
    GET,
    LAST_GET,
    PodConnection,
    Router,
    World,
    exchange,
    router,
    serving,
)


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
