"""Client and server over real sockets: secrets, balancing, ejection, stops."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpclib import GRPCError, Status
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.server import RpcServer
from sanfran_proto.grpc.health import v1 as health
from sanfran_proto.sanfran import v1 as pb


class Echo(pb.ControllerBase):
    """Answers with its own name; can be held, and streams for ever."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0
        self.entered = asyncio.Event()
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def activate(self, message: pb.ActivateFunctionRequest) -> pb.Route:
        self.calls += 1
        self.entered.set()
        await self.let_go.wait()
        if message.name == "missing":
            raise GRPCError(Status.NOT_FOUND, "no function missing")
        return pb.Route(name=message.name, controller=self.name)

    async def watch_routes(self, message: pb.WatchRoutesRequest) -> AsyncIterator[pb.RouteEvent]:
        yield pb.RouteEvent(synced=pb.RoutesSynced(controller=self.name))
        await asyncio.Event().wait()


def ask(name: str = "hello") -> pb.ActivateFunctionRequest:
    return pb.ActivateFunctionRequest(name=name)


@contextlib.asynccontextmanager
async def serving(
    tmp_path: Path, *names: str, secret: str = ""
) -> AsyncIterator[tuple[list[Echo], list[RpcServer], str]]:
    async with contextlib.AsyncExitStack() as stack:
        echoes = [Echo(name) for name in names]
        servers = [
            await stack.enter_async_context(
                RpcServer([echo], f"unix:{tmp_path}/{echo.name}.sock", secret=secret)
            )
            for echo in echoes
        ]
        yield echoes, servers, ",".join(server.address for server in servers)


async def test_a_call_over_tcp_with_a_picked_port_and_the_secret(tmp_path: Path) -> None:
    async with RpcServer([Echo("tcp")], "127.0.0.1:0", secret="s3") as server:
        assert not server.address.endswith(":0")
        async with RpcClient(server.address, secret="s3") as client:
            answer = await pb.ControllerStub(client.channel).activate(ask())
            assert answer.controller == "tcp"
            alive = await health.HealthStub(client.channel).check(health.HealthCheckRequest())
            assert alive.status == health.HealthCheckResponseServingStatus.SERVING


@pytest.mark.parametrize("secret", ["", "wrong"])
async def test_a_call_without_the_secret_is_unauthenticated(tmp_path: Path, secret: str) -> None:
    async with serving(tmp_path, "a", secret="right") as (echoes, _, addresses):
        async with RpcClient(addresses, secret=secret) as client:
            with pytest.raises(GRPCError) as refused:
                await pb.ControllerStub(client.channel).activate(ask())
    assert refused.value.status is Status.UNAUTHENTICATED
    assert echoes[0].calls == 0


async def test_a_unix_socket_is_private_and_gone_after_the_stop(tmp_path: Path) -> None:
    async with serving(tmp_path, "a"):
        assert (tmp_path / "a.sock").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "a.sock").exists()


async def test_calls_with_one_key_meet_at_one_address_and_move_when_it_dies(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, "a", "b", "c") as (echoes, servers, addresses):
        async with RpcClient(addresses) as one, RpcClient(addresses) as two:
            answers = {
                (await pb.ControllerStub(client.keyed("hello")).activate(ask())).controller
                for client in (one, two, one, two)
            }
            assert len(answers) == 1
            chosen = next(i for i, echo in enumerate(echoes) if echo.name in answers)
            await servers[chosen].__aexit__(None, None, None)
            # What is sent until its client has noticed is lost.
            while one._channels[servers[chosen].address].open:  # noqa: ASYNC110
                await asyncio.sleep(0)
            moved = (await pb.ControllerStub(one.keyed("hello")).activate(ask())).controller
            assert moved not in answers
            again = RpcServer([echoes[chosen]], servers[chosen].address)
            async with again, asyncio.timeout(5):
                while moved not in answers:  # until the probe has brought it back
                    moved = (await pb.ControllerStub(one.keyed("hello")).activate(ask())).controller


async def test_a_second_concurrent_call_goes_to_the_other_address(tmp_path: Path) -> None:
    async with serving(tmp_path, "a", "b") as (echoes, _, addresses):
        for echo in echoes:
            echo.let_go.clear()
        async with RpcClient(addresses) as client:
            stub = pb.ControllerStub(client.channel)
            calls = [asyncio.create_task(stub.activate(ask())) for _ in range(2)]
            for echo in echoes:
                await echo.entered.wait()
                echo.let_go.set()
            assert {(await call).controller for call in calls} == {"a", "b"}


async def test_without_any_server_a_call_is_unavailable_and_recovers_when_one_starts(
    tmp_path: Path,
) -> None:
    address = f"unix:{tmp_path}/late.sock"
    async with RpcClient(address) as client:
        stub = pb.ControllerStub(client.channel)
        with pytest.raises(GRPCError) as refused:
            await stub.activate(ask())
        assert refused.value.status is Status.UNAVAILABLE
        async with RpcServer([Echo("late")], address):
            assert (await stub.activate(ask())).controller == "late"


async def test_statuses_of_the_server_reach_the_caller(tmp_path: Path) -> None:
    async with serving(tmp_path, "a") as (_, _, addresses), RpcClient(addresses) as client:
        with pytest.raises(GRPCError) as missing:
            await pb.ControllerStub(client.channel).activate(ask("missing"))
        assert missing.value.status is Status.NOT_FOUND


async def test_a_call_over_its_deadline_is_deadline_exceeded_and_ejects_nobody(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, "a") as (echoes, _, addresses), RpcClient(addresses) as client:
        echoes[0].let_go.clear()
        with pytest.raises(GRPCError) as late:
            await pb.ControllerStub(client.channel).activate(ask(), timeout=0.05)
        assert late.value.status is Status.DEADLINE_EXCEEDED
        assert client._balancer.next_probe_at() is None


async def test_drain_lets_running_calls_finish_and_refuses_new_ones(tmp_path: Path) -> None:
    async with serving(tmp_path, "a") as (echoes, servers, addresses):
        async with RpcClient(addresses) as client:
            stub = pb.ControllerStub(client.channel)
            echoes[0].let_go.clear()
            running = asyncio.create_task(stub.activate(ask()))
            await echoes[0].entered.wait()
            draining = asyncio.create_task(servers[0].drain(grace=5))
            await asyncio.sleep(0)
            with pytest.raises(GRPCError) as refused:
                await stub.activate(ask())
            assert refused.value.status is Status.UNAVAILABLE
            echoes[0].let_go.set()
            await draining
            assert (await running).controller == "a"


async def test_a_stop_ends_streams_that_never_end_by_themselves(tmp_path: Path) -> None:
    async with serving(tmp_path, "a") as (_, servers, addresses), RpcClient(addresses) as client:
        stream = pb.ControllerStub(client.channel).watch_routes(pb.WatchRoutesRequest())
        assert (await anext(stream)).synced is not None
        await servers[0].drain(grace=0.01)
        async with asyncio.timeout(2):
            await servers[0].__aexit__(None, None, None)
            with pytest.raises(GRPCError) as ended:
                await anext(stream)
        assert ended.value.status is Status.UNAVAILABLE


async def test_each_names_every_address_and_dns_names_are_resolved() -> None:
    async with RpcServer([Echo("tcp")], "127.0.0.1:0") as server:
        number = server.address.rpartition(":")[2]
        async with RpcClient(f"dns:localhost:{number}") as client:
            async with asyncio.timeout(5):
                await client.wait_changed()
            channel = client.each()[server.address]
            assert (await pb.ControllerStub(channel).activate(ask())).controller == "tcp"


class NameServer:
    """Knows one replica, or none."""

    def __init__(self) -> None:
        self.replica = ""
        self.asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def look_up(self, _: str, number: int, *__: object) -> list[tuple[object, ...]]:
        """As `socket.getaddrinfo`, in a thread."""
        self._loop.call_soon_threadsafe(self.asked.set)
        if not self.replica:
            raise socket.gaierror(socket.EAI_NONAME, "no replica is ready")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.replica, number))]


async def test_a_name_is_looked_up_again_soon_when_its_address_fails_or_it_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sanfran_common.rpc.names.RESOLVE_EVERY", 600.0)
    names = NameServer()
    async with RpcServer([Echo("first")], "127.0.0.1:0") as first, asyncio.timeout(30):
        number = first.address.rpartition(":")[2]
        monkeypatch.setattr("socket.getaddrinfo", names.look_up)
        async with RpcClient(f"dns:replicas:{number}") as client:
            await names.asked.wait()  # not known
            names.replica = "127.0.0.1"
            await client.wait_changed()
            stub = pb.ControllerStub(client.channel)
            assert (await stub.activate(ask())).controller == "first"
            await first.__aexit__(None, None, None)
            async with RpcServer([Echo("second")], f"127.0.0.2:{number}"):
                names.replica = "127.0.0.2"
                with pytest.raises(GRPCError) as refused:
                    await stub.activate(ask())
                assert refused.value.status is Status.UNAVAILABLE
                await client.wait_changed()
                assert (await stub.activate(ask())).controller == "second"
