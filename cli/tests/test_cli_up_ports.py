"""Reserved ports: known before the service runs, and ours between its lives."""

import asyncio
import socket
import sys

import pytest
import uvloop
from sanfran_cli.errors import Refused
from sanfran_cli.up.ports import ReservedPort

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere ports are not held")


class Nothing(asyncio.Protocol):
    pass


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_a_service_can_listen_on_it_again_and_again(runner) -> None:  # type: ignore[no-untyped-def]
    with ReservedPort("127.0.0.1", 0, "--port") as held:

        async def listen() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Nothing, "127.0.0.1", held.port)
            _, writer = await asyncio.open_connection("127.0.0.1", held.port)
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

        runner(listen())
        runner(listen())


def test_a_port_where_something_listens_is_refused_by_its_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Refused, match=f"--port {port}: something listens there already"):
            ReservedPort("127.0.0.1", port, "--port")


def test_a_port_that_is_held_is_given_to_nobody_else() -> None:
    with ReservedPort("127.0.0.1", 0, "--port") as held, socket.socket() as other:
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", held.port))


def test_a_host_that_is_not_this_machine_is_refused() -> None:
    with pytest.raises(Refused, match=r"--host 192\.0\.2\.1 is no address of this machine; try"):
        ReservedPort("192.0.2.1", 0, "--port")


def test_a_host_that_no_machine_can_have_is_refused() -> None:
    with pytest.raises(Refused, match=r"--host a+: no name of a machine; try 127\.0\.0\.1"):
        ReservedPort("a" * 64, 0, "--port")


def test_urls_are_those_a_browser_here_can_open() -> None:
    with ReservedPort("0.0.0.0", 0, "--port") as held:
        assert held.address == f"0.0.0.0:{held.port}"
        assert held.url == f"http://127.0.0.1:{held.port}"
