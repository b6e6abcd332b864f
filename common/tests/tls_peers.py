"""Servers and clients with certificates, with other ones and with none."""

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from grpclib import GRPCError
from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.exceptions import StreamTerminatedError
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.codec import CODEC
from sanfran_common.rpc.roles import Role
from sanfran_common.rpc.server import RpcServer
from sanfran_common.rpc.tls import Tls
from sanfran_proto.sanfran import v1 as pb

from tests.certificates import Authority, pem_of, write

OURS = Authority()


class Controller(pb.ControllerBase):
    async def activate(self, message: pb.ActivateFunctionRequest) -> pb.Route:
        return pb.Route(name=message.name)

    async def get_pool(self, message: pb.GetPoolRequest) -> pb.PoolStatus:
        return pb.PoolStatus(controller="c")

    async def stream_logs(self, message: pb.StreamLogsRequest) -> AsyncIterator[pb.LogLine]:
        while True:
            yield pb.LogLine(text="x" * 60_000)
            await asyncio.sleep(0)

    async def watch_routes(self, message: pb.WatchRoutesRequest) -> AsyncIterator[pb.RouteEvent]:
        yield pb.RouteEvent(synced=pb.RoutesSynced(controller="c"))
        await asyncio.Event().wait()


@asynccontextmanager
async def serving(
    path: Path, *, secret: str = "", authority: Authority = OURS
) -> AsyncIterator[RpcServer]:
    folder = authority.folder(path / "server", "controller")
    async with (
        Tls(folder, Role.CONTROLLER) as tls,
        RpcServer([Controller()], "127.0.0.1:0", secret=secret, tls=tls) as server,
    ):
        yield server


@asynccontextmanager
async def calling(
    path: Path,
    address: str,
    role: Role,
    *,
    authority: Authority = OURS,
    server: Role = Role.CONTROLLER,
    secret: str = "",
) -> AsyncIterator[RpcClient]:
    folder = authority.folder(path / f"client-{role}", role)
    async with (
        Tls(folder, role) as tls,
        RpcClient(address, tls=tls.to(server), secret=secret) as client,
    ):
        yield client


async def activate(client: RpcClient) -> pb.Route:
    stub = pb.ControllerStub(client.channel)
    return await stub.activate(pb.ActivateFunctionRequest(name="hello"), timeout=10)


def client_context(
    certificate: bytes = b"", key: bytes = b"", *, folder: Path, authority: Authority = OURS
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem_of(authority.certificate).decode())
    context.set_alpn_protocols(["h2"])
    if certificate:
        write(folder / "shown", b"", certificate, key)
        context.load_cert_chain(folder / "shown/tls.crt", folder / "shown/tls.key")
    return context


async def call_with(
    server: RpcServer, certificate: bytes = b"", key: bytes = b""
) -> GRPCError | None:
    """What a client that is not ours gets; None: no answer at all."""
    async with stranger(server, certificate, key) as channel:
        try:
            await pb.ControllerStub(channel).get_pool(pb.GetPoolRequest(), timeout=10)
        except GRPCError as error:
            return error
        except (OSError, StreamTerminatedError):
            return None
    raise AssertionError("was answered")


@asynccontextmanager
async def stranger(
    server: RpcServer, certificate: bytes = b"", key: bytes = b""
) -> AsyncIterator[Channel]:
    """A channel of plain grpclib."""
    with tempfile.TemporaryDirectory() as folder:
        context = client_context(certificate, key, folder=Path(folder))
    host, _, number = server.address.rpartition(":")
    config = Configuration(ssl_target_name_override="controller.sanfran.internal")
    channel = Channel(host, int(number), codec=CODEC, ssl=context, config=config)
    try:
        yield channel
    finally:
        channel.close()


async def connect(
    server: RpcServer, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, number = server.address.rpartition(":")
    return await asyncio.open_connection(
        host, int(number), ssl=context, server_hostname="controller.sanfran.internal"
    )


def whys(logs: Sequence[MutableMapping[str, Any]]) -> list[str]:
    """Why connections were refused, by the server's log."""
    return [entry["why"] for entry in logs if entry["event"] == "connection refused"]
