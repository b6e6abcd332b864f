"""Who was replaced is refused, over real gRPC."""

from pathlib import Path

import pytest
from grpclib import GRPCError, Status
from sanfran_common.rpc.client import RpcClient
from sanfran_common.rpc.server import RpcServer
from sanfran_common.rpc.term import TermFence
from sanfran_proto.grpc.health import v1 as health


async def test_from_the_first_call_of_a_newer_term_on_older_ones_are_refused(
    tmp_path: Path,
) -> None:
    address = f"unix:{tmp_path}/a"
    async with (
        RpcServer([], address, fence=TermFence()),
        RpcClient(address) as nobody,
        RpcClient(address, term=3) as former,
        RpcClient(address, term=10) as newer,
    ):

        async def call(client: RpcClient) -> None:
            await health.HealthStub(client.channel).check(health.HealthCheckRequest())

        async def refused(client: RpcClient) -> None:
            with pytest.raises(GRPCError) as caught:
                await call(client)
            assert caught.value.status is Status.PERMISSION_DENIED

        await call(nobody)
        await call(former)
        await refused(nobody)
        await call(newer)
        await refused(former)
        await call(newer)
