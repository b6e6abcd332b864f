"""Mutual TLS: handshakes and connections that fail, stand still, are cut or are many."""

import asyncio
import socket
from pathlib import Path

import pytest
from sanfran_common.rpc.client import Unreachable
from sanfran_common.rpc.protocol import Protocol
from sanfran_common.rpc.roles import Role
from sanfran_proto.sanfran import v1 as pb

from common.tests.tls_peers import activate, call_with, calling, serving
from tests.certificates import Authority


async def test_calls_go_on_to_the_address_whose_certificate_holds(tmp_path: Path) -> None:
    other = Authority("sanfran other CA")
    async with (
        serving(tmp_path) as good,
        serving(tmp_path / "other", authority=other) as bad,
        calling(tmp_path, f"{bad.address},{good.address}", Role.ROUTER) as client,
    ):
        for _ in range(6):
            assert (await activate(client)).name == "hello"


async def test_a_mute_server_costs_the_time_to_connect_and_no_more(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        async with calling(tmp_path, address, Role.ROUTER) as client:
            with pytest.raises(Unreachable, match="no address answers"):
                await activate(client)


async def test_a_caller_that_leaves_in_the_handshake_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        async with calling(tmp_path, address, Role.ROUTER) as client:
            callers = [asyncio.create_task(activate(client)) for _ in range(3)]
            await asyncio.sleep(0.1)
            for caller in callers:
                caller.cancel()
            ended = await asyncio.gather(*callers, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in ended)
            mute.close()
            with pytest.raises(Unreachable):
                await activate(client)


async def test_many_first_callers_share_one_connection(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as server,
        calling(tmp_path, server.address, Role.ROUTER) as client,
    ):
        answers = await asyncio.gather(*(activate(client) for _ in range(50)))
        assert len(answers) == 50
        assert len(server._server._protocols) == 1


async def test_a_client_that_does_not_read_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    async with calling(tmp_path, "127.0.0.1:1", Role.API) as client:
        async with serving(tmp_path) as server:
            stub = pb.ControllerStub(client.at(server.address))
            stream = stub.stream_logs(pb.StreamLogsRequest(name="f", follow=True))
            assert (await anext(aiter(stream))).text
            protocol = client._channels[server.address]._protocol
            assert isinstance(protocol, Protocol)
            protocol.transport.pause_reading()
            (held,) = server._server._protocols
            # Less than what may be on its way by the windows of HTTP/2.
            wire = held.transport.get_extra_info("socket")
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            await asyncio.sleep(0.3)
            begun = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - begun < 10
        await stream.aclose()


async def test_many_who_stop_in_the_handshake_hold_up_nobody_and_a_stop_neither(
    tmp_path: Path,
) -> None:
    sockets = []
    async with serving(tmp_path) as server:
        host, _, number = server.address.rpartition(":")
        for junk in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 600) * 50:
            one = socket.create_connection((host, int(number)))
            one.sendall(junk)
            sockets.append(one)
        async with calling(tmp_path, server.address, Role.ROUTER) as client:
            assert (await activate(client)).name == "hello"
    for one in sockets:
        one.close()


async def test_handshakes_that_fail_leave_nothing_behind(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for _ in range(40):
            assert await call_with(server) is None
        # grpclib forgets in every tenth connection those that are over.
        assert len(server._server._handlers) < 20
