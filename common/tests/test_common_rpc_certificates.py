"""The folder of certificates: what is taken, what is refused, and how a new set comes into use."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings, strategies
from prometheus_client import REGISTRY
from sanfran_common.rpc import tls as tls_module
from sanfran_common.rpc.certificates import BadCertificates, load
from sanfran_common.rpc.client import RpcClient, Unreachable
from sanfran_common.rpc.roles import Role
from sanfran_common.rpc.server import RpcServer
from sanfran_common.rpc.tls import Tls
from sanfran_proto.sanfran import v1 as pb
from structlog.testing import capture_logs

from tests.certificates import DAY, Authority, pem_of, pem_of_key, write

OURS = Authority()
API = "api.sanfran.internal"


def ca_of(*authorities: Authority) -> bytes:
    comment = "# a comment, schön\n".encode()
    return comment + comment.join(pem_of(one.certificate) for one in authorities)


def damage(folder: Path, name: str) -> None:
    path = folder / name
    text = path.read_bytes()
    path.write_bytes(text[: len(text) // 2])


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no ca.crt": (lambda at: (at / "ca.crt").unlink(), "ca.crt: No such file"),
    "no key": (lambda at: (at / "tls.key").unlink(), "tls.key: No such file"),
    "a folder": (lambda at: ((at / "tls.crt").unlink(), (at / "tls.crt").mkdir()), "tls.crt: Is a"),
    "an empty file": (lambda at: (at / "tls.crt").write_bytes(b""), "tls.crt: is no PEM"),
    "half a ca": (lambda at: damage(at, "ca.crt"), "ca.crt: is no list of CA certificates"),
    "half a certificate": (lambda at: damage(at, "tls.crt"), "tls.crt or tls.key: cannot be read"),
    "half a key": (lambda at: damage(at, "tls.key"), "tls.crt or tls.key: cannot be read"),
    "another's key": (
        lambda at: (at / "tls.key").write_bytes(OURS.issue(API)[1]),
        "tls.key: is not the key of tls.crt",
    ),
    "an encrypted key": (
        lambda at: (at / "tls.key").write_bytes(
            pem_of_key(ec.generate_private_key(ec.SECP256R1()), b"secret")
        ),
        "tls.key: is encrypted",
    ),
    "another ca": (
        lambda at: (at / "ca.crt").write_bytes(ca_of(Authority("another"))),
        "tls.crt does not hold by ca.crt",
    ),
    "another role": (
        lambda at: write(at, ca_of(OURS), *OURS.issue("router.sanfran.internal")),
        "is for router.sanfran.internal; this service's carries the DNS name api.sanfran.internal",
    ),
    "two roles": (
        lambda at: write(at, ca_of(OURS), *OURS.issue("router.sanfran.internal", API)),
        "and no other of sanfran.internal",
    ),
    "no name": (lambda at: write(at, ca_of(OURS), *OURS.issue()), "is for no DNS name"),
    "over": (
        lambda at: write(at, ca_of(OURS), *OURS.issue(API, days=(-2, -1))),
        "certificate has expired",
    ),
    "not yet": (
        lambda at: write(at, ca_of(OURS), *OURS.issue(API, days=(1, 2))),
        "certificate is not yet valid",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_set_that_does_not_work_is_refused_by_the_name_of_the_file(
    tmp_path: Path, what: str
) -> None:
    OURS.folder(tmp_path, "api")
    change, says = WRONG[what]
    change(tmp_path)
    with pytest.raises(BadCertificates) as refused:
        Tls(str(tmp_path), Role.API)
    assert str(refused.value).startswith(f"--tls-dir {tmp_path}: ")
    assert says in str(refused.value)


NAMES = ("ca.crt", "tls.crt", "tls.key")
GOOD = dict(zip(NAMES, (ca_of(OURS), *OURS.issue(API)), strict=True))


@settings(max_examples=150, deadline=None)
@given(
    name=strategies.sampled_from(sorted(GOOD)),
    at=strategies.integers(0, 2000),
    length=strategies.integers(0, 2000),
    junk=strategies.binary(max_size=200) | strategies.sampled_from([*GOOD.values()]),
)
def test_whatever_is_in_the_files_it_is_taken_or_refused_and_nothing_else(
    name: str, at: int, length: int, junk: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = dict(GOOD)
        files[name] = files[name][:at] + junk + files[name][at + length :]
        write(Path(folder), *files.values())
        with contextlib.suppress(BadCertificates):
            assert load(Path(folder), Role.API) is not None


def test_the_end_is_the_certificates_or_its_cas_whichever_comes_first(tmp_path: Path) -> None:
    def ends_in(ca: bytes, made: tuple[bytes, bytes]) -> int:
        write(tmp_path, ca, *made)
        found = load(tmp_path, Role.API)
        assert found is not None
        return round((found.ends - time.time()) / DAY.total_seconds())

    short = Authority(days=(-1, 5))
    again = Authority(days=(-1, 50))  # of the same name
    assert ends_in(ca_of(OURS), OURS.issue(API)) == 90
    assert ends_in(ca_of(short), short.issue(API)) == 5
    assert ends_in(ca_of(short, again), again.issue(API)) == 50


class Api(pb.ApiBase):
    async def get_function(self, message: pb.GetFunctionRequest) -> pb.FunctionVersion:
        return pb.FunctionVersion(name=message.name)


class Pair:
    """A server and its client, each with a folder as kubelet makes them."""

    def __init__(self, path: Path, server: Tls, client: Tls, address: str) -> None:
        self.path = path
        self.server = server
        self.client = client
        self.address = address

    async def call(self) -> str:
        """Over a new connection."""
        async with RpcClient(self.address, tls=self.client.to(Role.API)) as client:
            return await ask(client)

    def swap(self, who: str, ca: bytes, made: tuple[bytes, bytes]) -> None:
        swap(self.path / who, ca, made)
        tls = getattr(self, who)
        tls.look(self.path / who)


async def ask(client: RpcClient) -> str:
    stub = pb.ApiStub(client.channel)
    return (await stub.get_function(pb.GetFunctionRequest(name="hello"), timeout=10)).name


def swap(folder: Path, ca: bytes, made: tuple[bytes, bytes]) -> None:
    """What kubelet does with a Secret's volume: files are links through `..data`, which is replaced."""
    new = folder / f"..{time.monotonic_ns()}"
    write(new, ca, *made)
    (folder / "..new").symlink_to(new.name)
    (folder / "..new").rename(folder / "..data")
    for name in ("ca.crt", "tls.crt", "tls.key"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


CONTROLLER = "controller.sanfran.internal"


@asynccontextmanager
async def pair(path: Path, authority: Authority = OURS) -> AsyncIterator[Pair]:
    for who, name in (("server", API), ("client", CONTROLLER)):
        swap(path / who, ca_of(authority), authority.issue(name))
    async with (
        Tls(str(path / "server"), Role.API) as server,
        Tls(str(path / "client"), Role.CONTROLLER) as client,
        RpcServer([Api()], "127.0.0.1:0", tls=server) as serving,
    ):
        yield Pair(path, server, client, serving.address)


async def test_a_ca_is_replaced_step_by_step_and_no_call_fails(tmp_path: Path) -> None:
    new = Authority("the next CA")
    async with pair(tmp_path) as both:
        async with RpcClient(both.address, tls=both.client.to(Role.API)) as old:
            assert await ask(old) == "hello"
            for step in (ca_of(OURS, new), OURS), (ca_of(OURS, new), new), (ca_of(new), new):
                ca, issuer = step
                for who, name in (("server", API), ("client", CONTROLLER)):
                    both.swap(who, ca, issuer.issue(name))
                    assert await both.call() == "hello"
            assert await ask(old) == "hello"  # still over its first connection
        stranger = tmp_path / "left behind"
        async with (
            Tls(OURS.folder(stranger, "controller"), Role.CONTROLLER) as tls,
            RpcClient(both.address, tls=tls.to(Role.API)) as client,
        ):
            with pytest.raises(Unreachable):
                await ask(client)


async def test_a_broken_new_set_is_told_of_once_and_the_old_one_stays(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        with capture_logs() as logs:
            certificate, _ = OURS.issue(API)
            for _ in range(3):
                both.swap("server", ca_of(OURS), (certificate, OURS.issue(API)[1]))
            assert await both.call() == "hello"
            both.swap("server", ca_of(OURS), OURS.issue(API, days=(-1, 30)))
            assert await both.call() == "hello"
    refused = [entry for entry in logs if entry["log_level"] == "error"]
    assert [entry["event"] for entry in refused] == ["new certificates refused, the former stay"]
    assert "tls.key: is not the key of tls.crt" in refused[0]["error"]
    assert [entry["event"] for entry in logs if entry["log_level"] == "info"] == [
        "new certificates"
    ]


async def test_a_set_that_is_not_valid_yet_is_taken_when_its_time_has_come(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        made = OURS.issue(API, days=(1.2 / DAY.total_seconds(), 30))
        both.swap("server", ca_of(OURS), made)
        before = both.server.now
        for _ in range(100):
            both.server.look(tmp_path / "server")
            if both.server.now is not before:
                break
            await asyncio.sleep(0.05)
        assert both.server.now is not before
        assert await both.call() == "hello"


async def test_a_change_is_noticed_without_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "LOOK_EVERY", 0.01)
    async with pair(tmp_path) as both:
        before = both.server.now
        swap(tmp_path / "server", ca_of(OURS), OURS.issue(API))
        for _ in range(3000):
            if both.server.now is not before:
                break
            await asyncio.sleep(0.01)
        assert both.server.now is not before


async def test_the_end_is_a_metric_and_warned_of_once(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with pair(tmp_path) as both:
            both.swap("server", ca_of(OURS), OURS.issue(API, days=(-80, 6)))
            both.server.look(tmp_path / "server")
    told = [entry for entry in logs if entry["event"] == "certificate ends"]
    assert [entry["hours_left"] for entry in told] == [144.0]
    ends = REGISTRY.get_sample_value("sanfran_tls_expires_timestamp_seconds", {"role": "api"})
    assert ends is not None
    assert 5.9 < (ends - time.time()) / DAY.total_seconds() < 6.1


async def test_a_short_life_is_warned_of_in_its_last_fifth_only(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with pair(tmp_path) as both:
            both.swap("server", ca_of(OURS), OURS.issue(API, days=(-0.5, 0.5)))
            assert not [entry for entry in logs if entry["event"] == "certificate ends"]
            both.swap("server", ca_of(OURS), OURS.issue(API, days=(-0.9, 0.1)))
    assert len([entry for entry in logs if entry["event"] == "certificate ends"]) == 1
