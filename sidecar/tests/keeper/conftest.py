"""A pod of two containers, without Kubernetes: a sidecar's process, and the keeper as PID 1 of a namespace."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import psutil
import pytest
from sanfran_common.rpc.client import RpcClient
from sanfran_proto.sanfran import v1 as pb
from sanfran_sidecar.parts import RUNTIME
from sanfran_sidecar.process import find_node

from sidecar.tests.conftest import Bench, Service, StartService

KEEPER = Path(__file__).parents[3] / "runtime/keeper.sh"
NAMESPACES = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--ipc"]
if os.getuid() != 0:
    NAMESPACES += ["--user", "--map-root-user"]
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
ALLOWED = (
    shutil.which("unshare") is not None
    and not subprocess.run(
        [*NAMESPACES, "sh", "-c", READ_ONLY, "/tmp", "true"], check=False, capture_output=True
    ).returncode
)
namespaces = pytest.mark.skipif(not ALLOWED, reason="this user may not make PID namespaces here")

LEAVES_EVERYTHING = """
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const start = (script) => spawn('sh', ['-c', script], { detached: true, stdio: 'ignore' }).unref();
module.exports = (req, res) => {
  start('(setsid sleep 301 &)');
  start('sleep 302 & kill -STOP $!; sleep 302');
  start('while :; do (sleep 0.003 &); sleep 0.001; done');
  start("trap '' TERM INT HUP; sleep 303");
  const deep = path.join(process.env.HOME, 'a', 'b');
  fs.mkdirSync(deep, { recursive: true });
  fs.writeFileSync(path.join(deep, '-rf *'), 'x');
  fs.chmodSync(deep, 0);
  for (const name of ['SIGTERM', 'SIGSTOP', 'SIGKILL']) try { process.kill(1, name); } catch {}
  res.send(process.env.HOME);
};
"""


class TwoContainers:
    """A volume, the sidecar's process on one side of it, the keeper on the other."""

    def __init__(self, bench: Bench, start: StartService) -> None:
        path = bench.path
        self.volume, self.scratch = path / "volume", path / "scratch"
        self.volume.mkdir()
        self.scratch.mkdir()
        self.cgroup = path / "cgroup"
        self.cgroup.mkdir()
        self.api = bench.api
        self.address = f"unix:{path}/sidecar.sock"
        self._api_address = bench.api_server.address
        self._start = start
        self.keeper: subprocess.Popen[bytes] | None = None
        self.said = path / "keeper.log"
        self._client: RpcClient | None = None

    def start_keeper(self, shell: str = "sh", *, by: Sequence[str] = ()) -> None:
        """The runtime's container."""
        with self.said.open("ab") as said:
            self.keeper = subprocess.Popen(
                [*NAMESPACES, "sh", "-c", READ_ONLY, str(self.volume), *by, shell, str(KEEPER)],
                env={
                    "PATH": os.environ["PATH"],
                    "SANFRAN_SHARED": str(self.volume),
                    "SANFRAN_SCRATCH": f"{self.scratch} /not/there",
                    "SANFRAN_NODE": str(find_node()),
                    "SANFRAN_RUNTIME": str(RUNTIME),
                    "SANFRAN_HTTP_HOST": "127.0.0.1",
                    "SANFRAN_HTTP_PORT": "0",
                    "SANFRAN_CGROUP": str(self.cgroup),
                    "A_SECRET_OF_THE_CONTAINER": "x",
                },
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    async def start_sidecar(self, *flags: str, by: Sequence[str] = ()) -> Service:
        """The sidecar's container; returns when the pod is generic."""
        fixed = ["--shared-dir", str(self.volume), "--listen", self.address]
        fixed += ["--api", self._api_address, "--admin", "127.0.0.1:0", "--pod", "pod-1"]
        return await self._start("sanfran_sidecar.main", *fixed, *flags, by=by)

    async def both(self) -> pb.SidecarStub:
        """A generic pod."""
        self.start_keeper()
        await self.start_sidecar()
        return await self.stub()

    async def stub(self) -> pb.SidecarStub:
        """Calls of the sidecar."""
        await self.close()
        self._client = await RpcClient(self.address).__aenter__()
        return pb.SidecarStub(self._client.channel)

    async def close(self) -> None:
        """Ends the calls."""
        if self._client is not None:
            await self._client.__aexit__(None, None, None)

    def inside(self) -> list[psutil.Process]:
        """What runs in the keeper's namespace, itself first."""
        assert self.keeper is not None
        return psutil.Process(self.keeper.pid).children(recursive=True)

    def node(self) -> psutil.Process:
        """The runtime."""
        return next(one for one in self.inside() if "runtime.cjs" in " ".join(one.cmdline()))

    async def nothing_but_the_runtime(self) -> None:
        """The keeper, the shell that waits for Node, and Node."""
        await until(lambda: len(self.inside()) == 3)
        assert self.inside()[-1] == self.node()


@pytest.fixture
async def pod(bench: Bench, start_service: StartService) -> AsyncIterator[TwoContainers]:
    """Two containers that are not there yet."""
    made = TwoContainers(bench, start_service)
    yield made
    await made.close()
    if made.keeper is not None and made.keeper.poll() is None:
        for first in made.inside()[:1]:
            first.kill()  # a change of user has undone what --kill-child asked for
        made.keeper.kill()
        made.keeper.wait()


async def until(true: Callable[[], bool]) -> None:
    """Looks again and again."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - processes and files tell nobody
            await asyncio.sleep(0.02)


async def ended(stub: pb.SidecarStub) -> pb.PodState:
    """What a watcher hears last."""
    async with asyncio.timeout(20):
        async for state in stub.watch_state(pb.GetStateRequest()):
            if state.phase is pb.PodPhase.GONE:
                return state
    raise AssertionError("it is not gone")
