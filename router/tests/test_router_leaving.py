"""A client that leaves, at any moment and in any way, frees all that was done for it at once.

One thing no router can see: the end of a client that closed with more unsent than the router's
kernel takes in, since its FIN stands in line behind the data. Only the timeout ends that.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

World = Any
Client = Any
Pod = Any
PodConnection = Any
Situation = tuple[Client, Pod | None]
"""A client, and the pod that has its request."""

MINUTE = {"timeout_ms": 60_000}
"""No timeout of the function's may be what ends a request here."""

PATIENCE = 10.0
"""Seconds, far more than it takes and far less than any timeout of the router."""


def raw(client: Client) -> Any:
    return client.writer.get_extra_info("socket")


async def closes(client: Client) -> None:
    client.abort()  # no flush of ours; the kernel sends a FIN, or an RST if answers are unread


async def resets(client: Client) -> None:
    raw(client).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.abort()


async def ends_its_side(client: Client) -> None:
    client.writer.write_eof()


async def is_killed(client: Client) -> None:
    """The connection becomes another process's, which ends by SIGKILL."""
    end = raw(client).fileno()
    owner = await asyncio.create_subprocess_exec("sleep", "60", pass_fds=[end])
    client.abort()
    await asyncio.sleep(0)
    owner.kill()
    await owner.wait()


class Held:
    """A pod's handler that first does something and then waits for the test."""

    def __init__(self, *first: bytes) -> None:
        self.first = first
        self.go_on = asyncio.Event()

    async def __call__(self, pod: PodConnection) -> None:
        for piece in self.first:
            pod.send(piece)
        await self.go_on.wait()
        await pod.reader.read()


async def serving(world: World, *first: bytes) -> Pod:
    pod = await world.pod(Held(*first))
    world.controller.route(pod, **MINUTE)
    await world.start_controller()
    await world.start_router(function_timeout=60)
    return pod


def paused(world: World) -> bool:
    (client,) = world.plane.clients
    return bool(client._intake.reasons)


async def all_received(world: World, client: Client) -> None:
    """Nothing of what the client has sent waits on its own side: a FIN will get through."""
    unsent = bytearray(4)

    def none() -> bool:
        fcntl.ioctl(raw(client).fileno(), termios.TIOCOUTQ, unsent)
        return not client.writer.transport.get_write_buffer_size() and not any(unsent)

    await world.seen(none)


async def waiting_for_a_pod(world: World, client_body: bytes = b"") -> Situation:
    async def activate(name: str) -> Any:
        await asyncio.Event().wait()

    world.controller.on_activate = activate
    await world.start_controller()
    await world.start_router(function_timeout=60, queue_timeout=60)
    client = await world.client()
    client.post(client_body)
    await world.seen(lambda: world.plane.activator.waiting == 1)
    return client, None


async def waiting_for_a_pod_with_a_body(world: World) -> Situation:
    client, _ = await waiting_for_a_pod(world, b"x" * 150_000)
    await world.seen(lambda: paused(world))
    await all_received(world, client)
    return client, None


async def connecting(world: World, full: str) -> Situation:
    pod = await world.pod()
    pod.address = full
    world.controller.route(pod, **MINUTE)
    await world.start_controller()
    await world.start_router(function_timeout=60, connect_timeout=60)
    client = await world.client()
    client.get()
    await world.seen(lambda: world.plane.table.functions["hello"].in_flight)
    return client, None


async def sending_a_short_body(world: World) -> Situation:
    await serving(world)
    client = await world.client()
    client.get("/fn/hello", "Content-Length: 10", method="POST")
    client.send(b"12345")
    await world.seen(lambda: any(one.busy for one in world.plane.clients))
    return client, None


async def at_work(world: World) -> Situation:
    pod = await serving(world)
    client = await world.client()
    client.get()
    await world.seen(lambda: pod.heads)
    return client, pod


async def sending_to_a_pod_that_does_not_read(world: World) -> Situation:
    pod = await serving(world, b"HTTP/1.1 100 Continue\r\n\r\n")
    client = await world.client()
    client.get("/fn/hello", "Content-Length: 1000000000", method="POST")
    while not (world.plane.clients and paused(world) and len(pod.heads) == 1):
        client.send(b"x" * 65536)
        await client.writer.drain()
        await asyncio.sleep(0.001)
    await all_received(world, client)
    return client, pod


async def not_reading_its_answer(world: World) -> Situation:
    pod = await serving(
        world, b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n", b"x" * 100_000_000
    )
    client = await world.client()
    client.reader._transport.pause_reading()
    client.get()
    await world.seen(lambda: pod.heads)
    await world.seen(lambda: [one for one in world.plane.clients if one.write_paused])
    return client, pod


async def between_two_events(world: World) -> Situation:
    pod = await serving(
        world, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"9\r\ndata: 1\n\n\r\n"
    )
    client = await world.client()
    client.get()
    await client.reader.readuntil(b"\n\n\r\n")
    return client, pod


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


async def in_a_tunnel(world: World) -> Situation:
    pod = await serving(world, SWITCH)
    client = await world.client()
    client.get("/fn/hello", "Connection: Upgrade", "Upgrade: echo")
    await client.head()
    return client, pod


async def in_a_tunnel_whose_other_end_does_not_read(world: World) -> Situation:
    client, pod = await in_a_tunnel(world)
    while not paused(world):
        client.send(b"x" * 65536)
        await client.writer.drain()
        await asyncio.sleep(0.001)
    await all_received(world, client)
    return client, pod


async def ahead_with_as_many_requests_as_are_kept(world: World) -> Situation:
    pod = await serving(world)
    client = await world.client()
    for _ in range(3000):
        client.get()
    await world.seen(lambda: pod.heads and paused(world))
    await all_received(world, client)
    return client, pod


MOMENTS = [
    waiting_for_a_pod,
    waiting_for_a_pod_with_a_body,
    connecting,
    sending_a_short_body,
    at_work,
    sending_to_a_pod_that_does_not_read,
    not_reading_its_answer,
    between_two_events,
    in_a_tunnel,
    in_a_tunnel_whose_other_end_does_not_read,
    ahead_with_as_many_requests_as_are_kept,
]


@pytest.mark.parametrize("leaves", [closes, resets, ends_its_side, is_killed])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_client_that_leaves_frees_all_that_it_held(
    world: World,
    full_backlog: str,
    moment: Callable[..., Awaitable[Situation]],
    leaves: Callable[[Client], Awaitable[None]],
) -> None:
    client, pod = await (moment(world, full_backlog) if moment is connecting else moment(world))
    (connection,) = world.plane.clients
    function = world.plane.table.functions["hello"]
    await leaves(client)
    async with asyncio.timeout(PATIENCE):
        await world.seen(lambda: not world.plane.clients)
    assert connection.transport.is_closing()
    assert (function.in_flight, len(function.waiting)) == (0, 0)
    if pod is not None:
        pod.handler.go_on.set()
        async with asyncio.timeout(PATIENCE):
            await pod.left.wait()
        assert len(pod.heads) == 1, "no request was begun that nobody waits for"
