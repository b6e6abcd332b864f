"""The admin port: what it shows, and what clients may do to it."""

import asyncio
import contextlib
import socket
import struct
import urllib.error
import urllib.request

import pytest
from sanfran_common.config import split_host_port
from sanfran_common.telemetry.admin import CONNECTIONS_MOST, AdminServer


class Life:
    is_ready = False


def get(admin: AdminServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{admin.address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def test_the_admin_port_shows_metrics_health_and_readiness() -> None:
    life = Life()
    async with AdminServer("127.0.0.1:0", life) as admin:
        assert await asyncio.to_thread(get, admin, "/healthz") == (200, "ok\n")
        assert (await asyncio.to_thread(get, admin, "/readyz"))[0] == 503
        life.is_ready = True
        assert (await asyncio.to_thread(get, admin, "/readyz"))[0] == 200
        status, text = await asyncio.to_thread(get, admin, "/metrics")
        assert status == 200
        assert "process_cpu_seconds_total" in text
        assert (await asyncio.to_thread(get, admin, "/other"))[0] == 404
        admin._beat -= 60
        assert (await asyncio.to_thread(get, admin, "/healthz"))[0] == 503


async def test_the_admin_port_listens_on_ipv6_too() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    async with AdminServer("[::1]:0", Life()) as admin:
        assert admin.address.startswith("[::1]:")
        assert await asyncio.to_thread(get, admin, "/healthz") == (200, "ok\n")


async def test_one_connection_too_many_is_closed_and_costs_no_thread() -> None:
    async with AdminServer("127.0.0.1:0", Life()) as admin:
        with contextlib.ExitStack() as idle:
            for _ in range(CONNECTIONS_MOST):
                idle.enter_context(socket.create_connection(split_host_port(admin.address)))
            reader, writer = await asyncio.open_connection(*split_host_port(admin.address))
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(5):
            while True:
                with contextlib.suppress(OSError):
                    assert await asyncio.to_thread(get, admin, "/healthz") == (200, "ok\n")
                    break


async def test_a_scraper_that_leaves_is_not_worth_a_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with AdminServer("127.0.0.1:0", Life()) as admin:
        for _ in range(5):
            with socket.create_connection(split_host_port(admin.address)) as scraper:
                reset = struct.pack("ii", 1, 0)
                scraper.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                scraper.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert await asyncio.to_thread(get, admin, "/healthz") == (200, "ok\n")
    assert "Traceback" not in "".join(capfd.readouterr())
