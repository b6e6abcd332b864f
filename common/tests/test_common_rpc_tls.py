"""Mutual TLS over real sockets: who is let in, and what is said to and of those who are not."""

import contextlib
import ssl
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from grpclib import GRPCError, Status
from sanfran_common.rpc.client import RpcClient, Unreachable
from sanfran_common.rpc.roles import CALLERS, Role
from sanfran_common.rpc.server import RpcServer
from sanfran_common.rpc.tls import Tls
from sanfran_proto.grpc.health import v1 as health
from sanfran_proto.grpc.reflection import v1
from sanfran_proto.sanfran import v1 as pb
from structlog.testing import capture_logs

from common.tests.tls_peers import (
    OURS,
    Controller,
    activate,
    call_with,
    calling,
    client_context,
    connect,
    serving,
    stranger,
    whys,
)
from tests.certificates import Authority


async def test_a_call_with_the_right_role_is_answered_and_a_stream_too(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, secret="s3") as server,
        calling(tmp_path, server.address, Role.ROUTER, secret="s3") as client,
    ):
        assert (await activate(client)).name == "hello"
        stub = pb.ControllerStub(client.channel)
        async for event in stub.watch_routes(pb.WatchRoutesRequest(router="r")):
            assert event.synced is not None
            break


async def test_the_secret_still_counts_beside_a_certificate(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, secret="s3") as server,
        calling(tmp_path, server.address, Role.ROUTER, secret="other") as client,
    ):
        with pytest.raises(GRPCError) as refused:
            await activate(client)
    assert refused.value.status is Status.UNAUTHENTICATED


async def test_a_role_may_call_its_own_methods_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        async with calling(tmp_path, server.address, Role.API) as api:
            with pytest.raises(GRPCError) as refused:
                await activate(api)
            assert refused.value.status is Status.PERMISSION_DENIED
            assert refused.value.message == (
                "/sanfran.v1.Controller/Activate: may not be called by a api; "
                "it is for controller or router"
            )
            pool = await pb.ControllerStub(api.channel).get_pool(pb.GetPoolRequest())
            assert pool.controller == "c"
        async with calling(tmp_path, server.address, Role.SIDECAR) as sidecar:
            alive = await health.HealthStub(sidecar.channel).check(health.HealthCheckRequest())
            assert alive.status is health.HealthCheckResponseServingStatus.SERVING


async def test_a_certificate_without_a_role_may_call_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        error = await call_with(server, *OURS.issue("somebody.example.org"))
        assert error is not None
        assert error.status is Status.UNAUTHENTICATED
        expected = "a caller without a certificate for <role>.sanfran.internal"
        assert expected in str(error.message)
        names = ("router.sanfran.internal", "api.sanfran.internal")
        error = await call_with(server, *OURS.issue(*names))
        assert error is not None
        assert error.status is Status.UNAUTHENTICATED


async def test_a_server_of_another_role_is_not_talked_to(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as server,
        calling(tmp_path, server.address, Role.CONTROLLER, server=Role.SIDECAR) as client,
    ):
        with capture_logs() as logs, pytest.raises(Unreachable) as failed:
            await activate(client)
    assert "Hostname mismatch, certificate is not valid for 'sidecar.sanfran.internal'" in str(
        failed.value.message
    )
    warned = [entry for entry in logs if entry["event"] == "address ejected"]
    assert [entry["log_level"] for entry in warned] == ["warning"]


async def test_a_server_of_another_ca_is_not_talked_to(tmp_path: Path) -> None:
    other = Authority("sanfran other CA")
    async with (
        serving(tmp_path) as server,
        calling(tmp_path, server.address, Role.ROUTER, authority=other) as client,
    ):
        with pytest.raises(
            Unreachable, match=r"certificate does not hold: (unable to get local|self-signed)"
        ):
            await activate(client)


async def test_a_client_of_another_ca_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    other = Authority("sanfran other CA")
    stranger = tmp_path / "stranger"
    with capture_logs() as logs:
        async with (
            serving(tmp_path) as server,
            Tls(OURS.folder(stranger, "router"), Role.ROUTER) as tls,
            RpcClient(server.address, tls=tls.to(Role.CONTROLLER)) as client,
        ):
            certificate, key = other.issue("router.sanfran.internal")
            (stranger / "tls.crt").write_bytes(certificate)
            (stranger / "tls.key").write_bytes(key)
            # It trusts our CA, and shows a certificate of the other one.
            tls.now.client.load_cert_chain(stranger / "tls.crt", stranger / "tls.key")
            with pytest.raises(Unreachable, match="the other side broke off; its log may say why"):
                await activate(client)
    assert any("unable to get local issuer" in why for why in whys(logs)), logs


async def test_a_client_without_a_certificate_is_refused_and_the_log_says_why(
    tmp_path: Path,
) -> None:
    with capture_logs() as logs:
        async with serving(tmp_path) as server:
            assert await call_with(server) is None
    assert whys(logs) == ["TLS: a certificate is required of the client, and it showed none"]


@pytest.mark.parametrize(
    ("days", "says"),
    [((-9.0, -1.0), "certificate has expired"), ((1.0, 9.0), "certificate is not yet valid")],
)
async def test_a_certificate_whose_dates_do_not_hold_is_refused(
    tmp_path: Path, days: tuple[float, float], says: str
) -> None:
    with capture_logs() as logs:
        async with serving(tmp_path) as server:
            shown = OURS.issue("router.sanfran.internal", days=days)
            assert await call_with(server, *shown) is None
    assert whys(logs) == [f"TLS: the other side's certificate does not hold: {says}"]


async def test_a_certificate_for_servers_only_does_not_make_a_client(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with serving(tmp_path) as server:
            purposes = (ExtendedKeyUsageOID.SERVER_AUTH,)
            shown = OURS.issue("router.sanfran.internal", purposes=purposes)
            assert await call_with(server, *shown) is None
    assert whys(logs) == [
        "TLS: the other side's certificate does not hold: unsuitable certificate purpose"
    ]


async def test_a_client_without_tls_is_told_what_may_be_wrong(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with serving(tmp_path) as server, RpcClient(server.address) as client:
            with pytest.raises(GRPCError) as failed:
                await activate(client)
    assert failed.value.status is Status.UNAVAILABLE
    assert "before its first word; does it want TLS, by --tls-dir?" in str(failed.value.message)
    assert any("does not speak TLS" in why for why in whys(logs)), logs


async def test_a_client_with_tls_is_told_that_the_server_has_none(tmp_path: Path) -> None:
    async with (
        RpcServer([Controller()], "127.0.0.1:0") as server,
        calling(tmp_path, server.address, Role.ROUTER) as client,
    ):
        with pytest.raises(Unreachable, match="does not speak TLS; does it have --tls-dir"):
            await activate(client)


async def test_older_versions_of_tls_are_refused(tmp_path: Path) -> None:
    context = client_context(*OURS.issue("router.sanfran.internal"), folder=tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with capture_logs() as logs:
        async with serving(tmp_path) as server:
            with pytest.raises(OSError):
                await connect(server, context)
    assert whys(logs) == ["TLS: unsupported protocol"]


async def test_a_client_that_does_not_offer_h2_is_refused(tmp_path: Path) -> None:
    context = client_context(*OURS.issue("router.sanfran.internal"), folder=tmp_path)
    context.set_alpn_protocols(["http/1.1"])
    async with serving(tmp_path) as server:
        with capture_logs() as logs:
            reader, writer = await connect(server, context)
            with contextlib.suppress(OSError):
                while await reader.read(1024):
                    pass
            writer.close()
    assert whys(logs) == ["TLS: its ALPN does not offer h2"]


async def test_without_a_certificate_only_methods_that_ask_themselves_may_be_called(
    tmp_path: Path,
) -> None:
    folder = OURS.folder(tmp_path / "server", "controller")
    asking = frozenset({"GetPool"})
    async with (
        Tls(folder, Role.CONTROLLER) as tls,
        RpcServer(
            [Controller()],
            "127.0.0.1:0",
            secret="s3",
            tls=tls,
            ask_themselves=asking,
            reflect=True,
        ) as server,
    ):
        async with stranger(server) as channel:
            assert (await pb.ControllerStub(channel).get_pool(pb.GetPoolRequest())).controller
            ask = v1.ServerReflectionStub(channel).server_reflection_info
            question = v1.ServerReflectionRequest(list_services="*")
            async for answer in ask([question]):
                assert answer.list_services_response is not None
            with pytest.raises(GRPCError) as refused:
                await pb.ControllerStub(channel).activate(pb.ActivateFunctionRequest(name="hello"))
            assert refused.value.status is Status.UNAUTHENTICATED


async def test_unix_sockets_need_no_certificate(tmp_path: Path) -> None:
    folder = OURS.folder(tmp_path / "server", "controller")
    async with (
        Tls(folder, Role.CONTROLLER) as tls,
        RpcServer([Controller()], f"unix:{tmp_path}/s", tls=tls) as server,
        RpcClient(server.address, tls=tls.to(Role.CONTROLLER)) as client,
    ):
        assert (await activate(client)).name == "hello"


def test_every_method_of_every_contract_says_who_may_call_it() -> None:
    bases = [value for name, value in vars(pb).items() if name.endswith("Base")]
    paths = {path for base in bases for path in base().__mapping__()}
    assert len(paths) > 20
    assert paths == {path for path in CALLERS if path.startswith("/sanfran.v1.")}
