"""The command as a process: readiness, refusals, a crash in the middle of writes, an ordered stop."""

import asyncio
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard
from sanfran_api.config import ApiConfig
from sanfran_common.rpc.client import RpcClient
from sanfran_proto.sanfran import v1 as pb

COMMAND = [str(Path(sys.executable).with_name("sanfran-api"))]


@asynccontextmanager
async def process(folder: Path, *flags: str) -> AsyncIterator[tuple[Any, dict[str, str]]]:
    """Starts the command, and gives it and its addresses once it is ready."""
    path = folder / f"notify-{random.randrange(10**9)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.setblocking(False)
        started = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("--data", str(folder / "data"), "--listen", "127.0.0.1:0"),
            *("--rpc-listen", "127.0.0.1:0", *flags),
            env={**os.environ, "NOTIFY_SOCKET": str(path)},
            stderr=subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(20):
                told = await asyncio.get_running_loop().sock_recv(notify, 4096)
            lines = [line.partition("=") for line in told.decode().splitlines()]
            yield started, {key: value for key, _, value in lines}
        finally:
            if started.returncode is None:
                started.kill()
            await started.wait()


async def acknowledged_writes(
    addresses: dict[str, str],
    written: dict[str, tuple[int, str]],
    number: int,
    enough: asyncio.Event,
) -> None:
    """Creates and updates until the service is gone; notes what was acknowledged."""
    url = f"http://{addresses['X_SANFRAN_HTTP']}/api/v1/"
    async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as http:
        for turn in range(1000):
            name = f"f{number}-{turn // 3}"
            size = random.choice([10, 5000, 300_000, 2_000_000])
            files = {"file": ("a.js", random.randbytes(size))}
            try:
                if turn % 3 == 0:
                    answer = await http.post("functions", data={"name": name}, files=files)
                else:
                    answer = await http.put(f"functions/{name}", files=files)
            except httpx.TransportError:
                return
            answer.raise_for_status()
            shown = answer.json()
            written[name] = (shown["version"], shown["digest"])
            if len(written) >= 15:
                enough.set()


@pytest.mark.parametrize("_round", range(3))
async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, _round: int) -> None:
    written: dict[str, tuple[int, str]] = {}
    enough = asyncio.Event()
    async with process(tmp_path) as (service, addresses):
        writers = [
            asyncio.create_task(acknowledged_writes(addresses, written, number, enough))
            for number in range(8)
        ]
        async with asyncio.timeout(30):
            await enough.wait()
        await asyncio.sleep(random.random() / 10)  # anywhere in what it does
        service.send_signal(signal.SIGKILL)
        await asyncio.gather(*writers)
    async with process(tmp_path) as (_, addresses), RpcClient(addresses["X_SANFRAN_RPC"]) as rpc:
        stub = pb.ApiStub(rpc.channel)
        for name, (version, digest) in written.items():
            found = await stub.get_function(pb.GetFunctionRequest(name=name))
            # The last write may be stored though its answer was never sent.
            assert found.version in (version, version + 1)
            assert found.version > version or found.digest == digest
        after = ""
        while True:
            page = await stub.list_functions(pb.ListFunctionsRequest(after=after))
            for function in page.functions:
                content = await fetched(stub, function.digest)
                assert hashlib.sha256(content).hexdigest() == function.digest
                assert len(content) == function.bundle_bytes
            after = page.next_after
            if not after:
                break


async def fetched(stub: pb.ApiStub, digest: str) -> bytes:
    request = pb.FetchBundleRequest(digest=digest)
    content = b"".join([chunk.data async for chunk in stub.fetch_bundle(request)])
    return zstandard.ZstdDecompressor().decompressobj().decompress(content)


async def test_it_tells_its_addresses_and_stops_in_order(tmp_path: Path) -> None:
    async with process(tmp_path) as (service, addresses):
        assert addresses["READY"] == "1"
        admin = addresses["X_SANFRAN_ADMIN"]
        async with httpx.AsyncClient(trust_env=False) as http:
            metrics = (await http.get(f"http://{admin}/metrics")).text
            assert "sanfran_api_commit_seconds" in metrics
        service.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            assert await service.wait() == 0


async def test_a_second_start_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    async with process(tmp_path):
        flags = ["--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0"]
        code, error = await refused(*flags, "--rpc-listen", "127.0.0.1:0")
        assert code == 1
        assert "another sanfran-api has this data folder open" in error


async def test_rest_is_not_offered_to_other_machines_unasked() -> None:
    for address in ("0.0.0.0:8081", "[::]:8081", "example.com:8081", "192.168.1.5:80"):
        code, error = await refused("--listen", address)
        assert code == 2
        assert "--auth basic" in error
    code, error = await refused("--listen", "nonsense")
    assert (code, "--listen" in error) == (2, True)


async def test_services_on_other_machines_have_to_prove_that_they_are_ours() -> None:
    code, error = await refused("--rpc-listen", "0.0.0.0:8091")
    assert code == 2
    assert "try --tls-dir, --rpc-secret" in error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--auth", "basic"], "needs --users-file FILE or --admin-password-file"),
        (["--auth", "digest"], "'digest' is none of none, basic, jwt"),
        (["--node", "/nonexistent"], "'/nonexistent' cannot be run; try"),
        (["--auth", "basic,none"], "is none of none, basic, jwt"),
        (["--auth", "jwt"], "needs --jwt-jwks"),
        (["--auth", "jwt", "--jwt-jwks", "https://x/keys"], "--jwt-issuer: missing"),
        (
            ["--auth", "jwt", "--jwt-jwks", "x", "--jwt-issuer", "me"],
            "--jwt-audience: missing",
        ),
        (
            [
                "--auth",
                "jwt",
                "--jwt-jwks",
                "http://10.0.0.1/keys",
                "--jwt-issuer",
                "me",
                "--jwt-audience",
                "us",
            ],
            "try https://",
        ),
    ],
)
async def test_settings_of_access_that_do_not_go_together_are_refused(
    flags: list[str], message: str
) -> None:
    code, error = await refused(*flags)
    assert code == 2
    assert message in error


async def refused(*flags: str) -> tuple[int | None, str]:
    started = await asyncio.create_subprocess_exec(
        *COMMAND, *flags, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    async with asyncio.timeout(20):
        _, error = await started.communicate()
    return started.returncode, error.decode()


@pytest.mark.parametrize(
    "ways",
    [
        ["--auth", "basic", "--users-file", "users"],
        [
            *("--auth", "jwt", "--jwt-jwks", "https://login.example.org/keys"),
            *("--jwt-issuer", "https://login.example.org", "--jwt-audience", "sanfran"),
        ],
    ],
)
async def test_whoever_asks_people_does_not_take_everyone_for_a_service(ways: list[str]) -> None:
    code, error = await refused(*ways, "--rpc-listen", "127.0.0.1:0")
    assert code == 2
    assert "--rpc-listen: whoever reaches 127.0.0.1:0" in error
    for works in ("SANFRAN_RPC_SECRET", "--tls-dir", "--rpc-listen unix:/run/sanfran/api.sock"):
        assert works in error


@pytest.mark.parametrize(
    "shown",
    [{"rpc_secret": "x" * 32}, {"rpc_listen": "unix:/run/api.sock"}, {"tls_dir": "/etc/certs"}],
)
def test_people_are_asked_where_services_have_something_to_show(shown: dict[str, str]) -> None:
    assert ApiConfig(**{"auth": "basic", "users_file": "users", **shown}).ways == {"basic"}  # type: ignore[arg-type]  # all are text


def test_nobody_on_this_machine_is_asked_unless_it_is_wished() -> None:
    assert not ApiConfig(rpc_listen="127.0.0.1:8091").ways
