"""From an order to a ready pod's sidecar until the first request is served, without controller and router.

A small function, TypeScript, and a folder with Express and 60 packages; each the first time on the machine,
which unpacks and compiles, and again, which finds both done.
"""

import asyncio
import hashlib
import io
import os
import socket
import sys
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop
from sanfran_common.rpc.client import RpcClient
from sanfran_proto.sanfran import v1 as pb

from bench.figures import percentile
from tests.parts import child

MODULES = Path(__file__).parents[1] / "runtime/node_modules"
SETTLE = 1.5
"""Seconds between activations: a runtime writes what it compiled a second after it loaded."""
SMALL_BUNDLE = 32 << 10
FIRST = "first"
SMALL = {"function.js": b"module.exports = (req, res) => res.send('Hello ' + req.query.name);\n"}
TYPED = {
    "function.ts": b"export default (req: any, res: any): void => { res.send('Hello ' + req.query.name); };\n"
}
EXPRESS = b"""
const app = require('express')();
app.get('/', (req, res) => res.send('Hello ' + req.query.name));
module.exports = app;
"""


def express_folder() -> dict[str, bytes]:
    """Express and all that it needs, as npm lays them out."""
    files = {"function.js": EXPRESS}
    for path in sorted(MODULES.rglob("*")):
        inside = path.relative_to(MODULES)
        if path.is_file() and inside.parts[0] not in (".bin", "@esbuild", "esbuild"):
            files[f"node_modules/{inside}"] = path.read_bytes()
    return files


def pack(files: dict[str, bytes]) -> bytes:
    """A bundle as the api service makes it."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return made.getvalue()


@asynccontextmanager
async def sidecar(folder: Path) -> AsyncIterator[pb.SidecarStub]:
    """A sidecar process with its pod, warm, and a warm channel to it."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(folder / "notify"))
        notify.setblocking(False)
        command = [sys.executable, "-m", "sanfran_sidecar.main", "--log-level", "warning"]
        command += ["--listen", f"unix:{folder}/rpc", "--run-dir", str(folder / "run")]
        command += ["--cache-dir", str(folder / "cache")]
        env = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify")}
        async with child(*command, env=env), asyncio.timeout(300):
            await loop.sock_recv(notify, 4096)
            async with RpcClient(f"unix:{folder}/rpc") as client:
                stub = pb.SidecarStub(client.channel)
                for _ in range(3):
                    await stub.get_state(pb.GetStateRequest())
                yield stub


async def activation(
    stub: pb.SidecarStub, files: dict[str, bytes], bundle: bytes, id: str
) -> float:
    """Milliseconds of one activation and its first request; the pod is generic again afterwards."""
    function = pb.FunctionVersion(
        name="hello",
        version=1,
        digest=hashlib.sha256(bundle).hexdigest(),
        bundle_bytes=len(bundle),
        entry=next(iter(files)),
    )
    # As a controller does: small ones travel with the order, and of large ones the machine has a copy.
    given = bundle if len(bundle) <= SMALL_BUNDLE or id == FIRST else b""
    order = pb.ActivatePodRequest(activation_id=id, function=function, bundle=given)
    began = time.perf_counter()
    answer = await stub.activate(order)
    if answer.loaded is None:
        raise RuntimeError(f"not loaded: {answer.failed}")
    host, _, port = answer.loaded.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"GET /fn/hello?name=x HTTP/1.1\r\nHost: x\r\nx-sanfran-activation: {id}\r\n\r\n"
    writer.write(head.encode())
    line = await reader.readline()
    took = (time.perf_counter() - began) * 1000
    if b" 200 " not in line:
        raise RuntimeError(f"answered {line!r}")
    await asyncio.sleep(SETTLE)
    writer.close()
    await stub.recycle(pb.RecycleRequest(activation_id=id, grace_ms=0))
    return took


async def measure(what: str, files: dict[str, bytes], times: int) -> None:
    """First, then again and again, in a sidecar of its own."""
    bundle = pack(files)
    with tempfile.TemporaryDirectory(prefix="sf-") as folder:
        async with sidecar(Path(folder)) as stub:
            first = await activation(stub, files, bundle, FIRST)
            again = sorted(
                [await activation(stub, files, bundle, f"again-{n}") for n in range(times)]
            )
    p50, p90 = percentile(again, 50), percentile(again, 90)
    print(f"  {what:<26} first {first:6.1f} ms; again p50 {p50:5.1f} ms, p90 {p90:5.1f} ms")


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    times = 2 if quick else 20
    express = express_folder()
    packages = sum(1 for name in express if name.count("/") == 2 and name.endswith("/package.json"))
    print("Loading in a ready pod: from the order to the sidecar until the first answer")
    for what, files in (
        ("a small function", SMALL),
        ("a small .ts", TYPED),
        (f"Express, {packages} packages", express),
    ):
        uvloop.run(measure(what, files, times))
