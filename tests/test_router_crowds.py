"""Many slow clients, and far too many clients, meet limits: not memory, and not one another's turn."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpclib import GRPCError, Status
from sanfran_proto.sanfran import v1 as pb

from tests.parts import router
from tests.peers import (
    OK,
    Answer,
    Functions,
    Reader,
    Writer,
    answer_ok,
    call,
    connect,
    cpu_seconds,
    memory,
    peak_memory,
    pod,
    read_answer,
    read_request,
    request,
    tree,
)

MB = 1 << 20
PATIENCE = 60.0


@contextlib.asynccontextmanager
async def connections(address: str, number: int) -> AsyncIterator[list[tuple[Reader, Writer]]]:
    """Clients, opened a hundred at a time."""
    opened: list[tuple[Reader, Writer]] = []
    try:
        while len(opened) < number:
            batch = min(100, number - len(opened))
            opened += await asyncio.gather(*(connect(address) for _ in range(batch)))
        yield opened
    finally:
        for _, writer in opened:
            writer.transport.abort()


async def send_all(clients: list[tuple[Reader, Writer]], data: bytes) -> None:
    for _, writer in clients:
        writer.write(data)


async def answers(clients: list[tuple[Reader, Writer]]) -> list[Answer]:
    async with asyncio.timeout(PATIENCE):
        return list(await asyncio.gather(*(read_answer(reader) for reader, _ in clients)))


async def test_500_slow_clients_hold_nothing_but_their_own_connections(tmp_path: Path) -> None:
    size = 300_000  # more than a router keeps, less than a kernel takes

    async def handler(reader: Reader, writer: Writer) -> None:
        while True:
            if b" /fn/busy/large " in await read_request(reader):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                writer.write(b"x" * size)
            else:
                writer.write(OK)

    async with (
        pod(handler) as busy,
        pod(answer_ok) as other,
        # The function's timeout is what ends a slow body; two requests fill the function.
        router(
            Functions({"busy": busy, "other": other}, concurrency=2, timeout=4),
            tmp_path,
            *("--head-timeout", "3"),
        ) as routing,
    ):
        assert (await call(routing.address, "/fn/busy")).body == b"ok"
        before = memory(routing.pid)
        async with (
            connections(routing.address, 200) as heads,
            connections(routing.address, 200) as bodies,
            connections(routing.address, 100) as readers,
        ):
            await send_all(heads, b"GET /fn/busy HTTP/1.1\r\nX-Slo")
            await send_all(
                bodies, request("/fn/busy", "Content-Length: 100", method="POST") + b"ten bytes,"
            )
            for reader, writer in readers:
                reader._transport.pause_reading()  # type: ignore[attr-defined]  # not offered
                writer.write(request("/fn/busy/large"))
            for target in ("/fn/busy", "/fn/other") * 20:
                async with asyncio.timeout(PATIENCE):
                    answer = await call(routing.address, target)
                assert (answer.status, answer.body) == (200, b"ok")
            assert peak_memory(routing.pid) - before < 48 * MB
            assert {(one.status, one.code) for one in await answers(heads)} == {
                (408, "head_timeout")
            }
            assert {(one.status, one.code) for one in await answers(bodies)} == {
                (408, "body_timeout")
            }
            for reader, _ in readers:
                reader._transport.resume_reading()  # type: ignore[attr-defined]
            assert {len(one.body) for one in await answers(readers)} == {size}
        assert (await call(routing.address, "/fn/busy")).body == b"ok"


async def test_a_reader_that_stalls_gives_its_place_back_at_the_functions_timeout(
    tmp_path: Path,
) -> None:
    ended = asyncio.Event()

    async def handler(reader: Reader, writer: Writer) -> None:
        head = await read_request(reader)
        while b"/endless" not in head:
            writer.write(OK)
            head = await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                await writer.drain()
        finally:
            ended.set()

    async with (
        pod(handler) as at,
        router(Functions({"hello": at}, concurrency=1, timeout=2), tmp_path) as routing,
    ):
        stalled, writer = await connect(routing.address, SO_RCVBUF=4096)
        stalled._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(request("/fn/hello/endless"))
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
            assert (await call(routing.address)).body == b"ok"
        stalled._transport.resume_reading()  # type: ignore[attr-defined]
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await read_chunks(stalled)
        writer.close()


async def read_chunks(reader: Reader) -> None:
    """Reads a chunked answer to its clean end."""
    await reader.readuntil(b"\r\n\r\n")
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)


@pytest.mark.parametrize(("limit", "extra"), [(50, 100), (1000, 3000)])
async def test_connections_over_the_limit_are_told_so_and_cost_nobody_anything(
    tmp_path: Path, limit: int, extra: int
) -> None:
    async with (
        pod(answer_ok) as at,
        router(Functions({"hello": at}), tmp_path, *("--max-connections", str(limit))) as routing,
    ):
        async with connections(routing.address, limit) as kept:
            await send_all(kept, request())
            assert {one.body for one in await answers(kept)} == {b"ok"}
            before = memory(routing.pid)
            told = Counter[str]()
            async with connections(routing.address, extra) as refused:
                for ended in await asyncio.gather(*(refusal(*one) for one in refused)):
                    told[ended] += 1
                await send_all(kept, request())
                assert {one.body for one in await answers(kept)} == {b"ok"}
            # Beyond a reasonable number at once, only that they are closed counts.
            assert told["503 no_capacity 1"] >= min(extra, 100)
            assert set(told) <= {"503 no_capacity 1", "closed"}
            assert peak_memory(routing.pid) - before < 32 * MB
        await served_again(routing.address)
        async with connections(routing.address, limit // 2) as again:
            await send_all(again, request())
            assert {one.body for one in await answers(again)} == {b"ok"}


async def refusal(reader: Reader, writer: Writer) -> str:
    """How a client that sends its request at once is turned away."""
    async with asyncio.timeout(PATIENCE):
        try:
            writer.write(request())
            answer = await read_answer(reader)
            assert await reader.read() == b""
        except (ConnectionError, asyncio.IncompleteReadError):
            return "closed"
    return f"{answer.status} {answer.code} {answer.header('retry-after')}"


async def served_again(address: str) -> None:
    """Until a new connection gets an answer from the function."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                if (await call(address)).status == 200:
                    return
            await asyncio.sleep(0.05)


class Away(Functions):
    """It has told where functions run, and answers no question."""

    async def activate(self, message: pb.ActivateFunctionRequest) -> pb.Route:
        raise GRPCError(Status.UNAVAILABLE, "away")


@pytest.mark.parametrize("controller", [Functions, Away])
async def test_a_router_without_file_descriptors_serves_on_and_recovers(
    tmp_path: Path, controller: type[Functions]
) -> None:
    async with (
        pod(answer_ok) as at,
        router(
            controller({"hello": at, "other": at}), tmp_path, *("--queue-timeout", "1")
        ) as routing,
    ):
        async with connections(routing.address, 5) as kept:
            for client in kept:  # one after the other: they share one connection to the pod
                await send_all([client], request())
                assert (await answers([client]))[0].body == b"ok"
            processes = tree(routing.pid)
            limits = {
                one.pid: resource.prlimit(one.pid, resource.RLIMIT_NOFILE) for one in processes
            }
            for one in processes:
                room = one.num_fds() + 20
                resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (room, limits[one.pid][1]))
            async with connections(routing.address, 100):
                before = cpu_seconds(routing.pid)
                await asyncio.sleep(1)
                assert cpu_seconds(routing.pid) - before < 0.5, "it does not turn in a circle"
                await send_all(kept, request())
                # The pod is well: one connection to it is there, more cannot be had.
                assert {one.status for one in await answers(kept)} <= {200, 503}
                for client in kept:
                    await send_all([client], request())
                    assert (await answers([client]))[0].body == b"ok"
            for one in processes:
                resource.prlimit(one.pid, resource.RLIMIT_NOFILE, limits[one.pid])
            await served_again(routing.address)
            await send_all(kept, request("/fn/other"))
            assert {one.body for one in await answers(kept)} == {b"ok"}
