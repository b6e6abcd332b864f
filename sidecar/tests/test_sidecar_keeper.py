"""A pod of two containers, without Kubernetes: a sidecar's process, and the keeper as PID 1 of a namespace."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from grpclib import GRPCError, Status
from sanfran_common.rpc.client import RpcClient
from sanfran_proto.sanfran import v1 as pb
from sanfran_sidecar.parts import RUNTIME
from sanfran_sidecar.process import find_node

if TYPE_CHECKING:
    from conftest import Bench, Service, StartService

KEEPER = Path(__file__).parents[2] / "runtime/keeper.sh"
NAMESPACES = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--ipc"]
if os.getuid() != 0:
    NAMESPACES += ["--user", "--map-root-user"]


VOLUME_GROUP = 60003


def as_user(uid: int) -> list[str]:
    """A command that runs its arguments without root's rights."""
    rights = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", f"--groups={VOLUME_GROUP}", *rights]


# setpriv has root's capabilities until its exec, and could read what its arguments' user cannot. In a
# container they have gone before.
KEEPER_USER = [*as_user(60001), "sh", "-c", 'exec "$0" "$@"']
SIDECAR_USER = as_user(60002)
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
ALLOWED = (
    shutil.which("unshare") is not None
    and not subprocess.run(
        [*NAMESPACES, "sh", "-c", READ_ONLY, "/tmp", "true"], check=False, capture_output=True
    ).returncode
)
namespaces = pytest.mark.skipif(not ALLOWED, reason="this user may not make PID namespaces here")
SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]

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
    if made.keeper is not None:
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


@namespaces
@pytest.mark.parametrize("shell", SHELLS)
async def test_one_container_serves_functions_one_after_another(
    shell: str, pod: TwoContainers, bench: Bench
) -> None:
    pod.start_keeper(shell)
    await pod.start_sidecar("--print-logs")
    stub = await pod.stub()
    for name, text in (("one", "first"), ("two", "second")):
        source = f"console.log('hello'); module.exports = (req, res) => res.send('{text}')"
        function = pod.api.function(source, name=name)
        before = pod.node()
        answer = await stub.activate(bench.order(f"id-{name}", function))
        assert answer.loaded is not None
        assert await bench.get(answer.loaded.address, f"/fn/{name}", f"id-{name}") == (200, text)
        await bench.said(stub, "hello")
        open_bundles = [one.stat().st_mode & 0o777 for one in pod.volume.glob("bundles/*.*")]
        assert sorted(open_bundles) == [0o500] * (name == "two") + [0o555]
        state = await stub.recycle(pb.RecycleRequest(activation_id=f"id-{name}"))
        assert state.phase is pb.PodPhase.GENERIC
        assert pod.node() != before
    assert [one.name for one in pod.volume.glob("meet/*")] == []
    await pod.nothing_but_the_runtime()


@namespaces
async def test_a_recycled_function_leaves_nothing(pod: TwoContainers, bench: Bench) -> None:
    stub = await pod.both()
    keeper = pod.inside()[0]
    answer = await stub.activate(bench.order("a1", pod.api.function(LEAVES_EVERYTHING)))
    assert answer.loaded is not None
    assert await bench.get(answer.loaded.address, "/fn/hello", "a1") == (200, str(pod.scratch))
    await until(lambda: len(pod.inside()) >= 8)
    state = await stub.recycle(pb.RecycleRequest(activation_id="a1"))
    assert state.phase is pb.PodPhase.GENERIC
    await pod.nothing_but_the_runtime()
    assert pod.inside()[0] == keeper
    assert list(pod.scratch.iterdir()) == []


@namespaces
async def test_a_function_has_its_own_output_and_no_variable_of_its_container(
    pod: TwoContainers, bench: Bench
) -> None:
    stub = await pod.both()
    source = "require('fs').writeSync(1, 'raw\\nhalf'); require('fs').writeSync(2, 'oh\\n'); module.exports = () => {}"
    await stub.activate(bench.order("a1", pod.api.function(source)))
    await bench.said(stub, "raw")
    await bench.said(stub, "oh")
    state = await stub.recycle(pb.RecycleRequest(activation_id="a1"))
    assert "half" in [line.text for line in state.last_words]
    await stub.activate(bench.order("a2", pod.api.function("module.exports = () => {}", version=2)))
    state = await stub.recycle(pb.RecycleRequest(activation_id="a2"))
    assert [line.text for line in state.last_words] == []
    source = "console.log(Object.keys(process.env).sort().join()); module.exports = () => {}"
    function = pod.api.function(source, version=3, env={"MINE": "1"})
    await stub.activate(bench.order("a3", function))
    await bench.said(stub, "HOME,LANG,MINE,NODE_ENV,PATH,TMPDIR")


@namespaces
async def test_a_process_that_is_killed_or_exits_ends_the_pod_with_the_reason(
    pod: TwoContainers, bench: Bench
) -> None:
    stub = await pod.both()
    await stub.activate(bench.order("a1", pod.api.function("module.exports = () => {}")))
    pod.node().kill()
    state = await ended(stub)
    assert (state.phase, state.reason) == (pb.PodPhase.GONE, "killed by SIGKILL")


@namespaces
async def test_code_that_exits_while_it_loads_is_a_failed_load(
    pod: TwoContainers, bench: Bench
) -> None:
    stub = await pod.both()
    answer = await stub.activate(bench.order("a1", pod.api.function("process.exit(7)")))
    assert answer.failed is not None
    assert "exited with code 7" in answer.failed.message


@namespaces
async def test_a_held_event_loop_is_ended_from_outside(pod: TwoContainers, bench: Bench) -> None:
    stub = await pod.both()
    function = pod.api.function("module.exports = () => { for (;;); };")
    function.settings = pb.FunctionSettings(timeout_ms=500)
    answer = await stub.activate(bench.order("a1", function))
    assert answer.loaded is not None
    calling = asyncio.create_task(bench.get(answer.loaded.address, "/fn/hello", "a1"))
    state = await ended(stub)
    assert state.reason == "timeout: its event loop was held for more than 0.5 s"
    await asyncio.wait({calling})
    assert calling.exception() is not None


@namespaces
@pytest.mark.parametrize(
    "stat",
    [
        "anon {}\nfile 999999999999\nkernel 1\nshmem 1048576\n",
        "cache 999999999999\ntotal_rss {}\ntotal_shmem 1048576\n",
    ],
    ids=["cgroup v2", "cgroup v1"],
)
async def test_a_container_with_more_memory_than_its_function_may_have_is_ended(
    stat: str, pod: TwoContainers, bench: Bench
) -> None:
    where = pod.cgroup / ("memory.stat" if stat.startswith("anon") else "memory/memory.stat")
    where.parent.mkdir(exist_ok=True)
    where.write_text(stat.format(31 << 20))
    stub = await pod.both()
    function = pod.api.function("module.exports = () => {}")
    function.settings = pb.FunctionSettings(memory_mb=32)
    answer = await stub.activate(bench.order("a1", function))
    assert answer.loaded is not None
    where.write_text(stat.format(40 << 20))
    state = await ended(stub)
    assert state.reason == "out_of_memory: it had 41 MB, 32 MB are allowed"


@namespaces
async def test_a_sidecar_whose_container_s_other_half_ends_ends_too_and_the_next_one_meets_the_next(
    pod: TwoContainers, bench: Bench
) -> None:
    pod.start_keeper()
    sidecar = await pod.start_sidecar()
    stub = await pod.stub()
    await stub.activate(bench.order("a1", pod.api.function()))
    assert pod.keeper is not None
    pod.keeper.kill()
    pod.keeper.wait()
    assert (await ended(stub)).phase is pb.PodPhase.GONE
    async with asyncio.timeout(10):
        assert await sidecar.process.wait() == 1
    pod.start_keeper()
    await pod.start_sidecar()
    state = await (await pod.stub()).get_state(pb.GetStateRequest())
    assert (state.phase, state.activation_id) == (pb.PodPhase.GENERIC, "")


@namespaces
async def test_a_killed_sidecar_takes_the_function_with_it_and_the_next_one_gets_a_fresh_process(
    pod: TwoContainers, bench: Bench
) -> None:
    pod.start_keeper()
    sidecar = await pod.start_sidecar()
    stub = await pod.stub()
    # Told to stop, be it by the function, the keeper would end with its sidecar.
    source = LEAVES_EVERYTHING.replace("'SIGTERM', ", "")
    answer = await stub.activate(bench.order("a1", pod.api.function(source)))
    assert answer.loaded is not None
    await bench.get(answer.loaded.address, "/fn/hello", "a1")
    keeper = pod.inside()[0]
    await sidecar.stop(signal.SIGKILL)

    def only_strays() -> bool:
        try:
            return {one.name() for one in pod.inside()[1:]} <= {"sleep"}
        except psutil.NoSuchProcess:  # it ended while we looked
            return False

    await until(only_strays)
    await pod.start_sidecar()
    await pod.nothing_but_the_runtime()
    assert pod.inside()[0] == keeper
    assert (await (await pod.stub()).get_state(pb.GetStateRequest())).phase is pb.PodPhase.GENERIC


@namespaces
async def test_a_sidecar_that_died_before_it_met_its_keeper_leaves_a_way_for_the_next(
    pod: TwoContainers,
) -> None:
    starting = asyncio.create_task(pod.start_sidecar())
    await until((pod.volume / "meet/orders").is_fifo)
    first = next(
        one for one in psutil.Process().children() if "sanfran_sidecar.main" in one.cmdline()
    )
    first.kill()
    with pytest.raises(AssertionError):
        await starting
    pod.start_keeper()  # now waits in its open()
    await asyncio.sleep(0.3)
    await pod.start_sidecar()
    await pod.nothing_but_the_runtime()


@namespaces
async def test_a_container_that_is_to_stop_waits_for_its_sidecar_and_then_ends_by_itself(
    pod: TwoContainers, bench: Bench
) -> None:
    pod.start_keeper()
    sidecar = await pod.start_sidecar()
    stub = await pod.stub()
    slow = "module.exports = (req, res) => setTimeout(() => res.send('done'), 800)"
    answer = await stub.activate(bench.order("a1", pod.api.function(slow)))
    assert answer.loaded is not None
    calling = asyncio.create_task(bench.get(answer.loaded.address, "/fn/hello", "a1"))
    await asyncio.sleep(0.2)
    pod.inside()[0].terminate()
    assert await sidecar.stop() == 0
    assert await calling == (200, "done")
    assert pod.keeper is not None
    assert await asyncio.to_thread(pod.keeper.wait, 10) == 0


@namespaces
@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small file system")
async def test_a_bundle_that_finds_no_room_in_the_volume_is_refused_with_the_place(
    pod: TwoContainers, bench: Bench
) -> None:
    with small_file_system(pod.volume):
        stub = await pod.both()
        for version, size in enumerate((100_000, 200_000), 1):  # the second when the first has gone
            files: dict[str, str | bytes] = {
                "f.js": "module.exports = () => {}",
                "x": os.urandom(size),
            }
            function = pod.api.function(files, version=version)
            activation = f"a{version}"
            answer = await stub.activate(bench.order(activation, function))
            assert answer.loaded is not None
            await stub.recycle(pb.RecycleRequest(activation_id=activation))
        files["x"] = os.urandom(400_000)
        with pytest.raises(GRPCError) as refused:
            await stub.activate(bench.order("a3", pod.api.function(files, version=3)))
        assert refused.value.status is Status.UNAVAILABLE
        assert f"no space left for it in {pod.volume}/bundles" in str(refused.value.message)
        state = await stub.get_state(pb.GetStateRequest())
        assert state.phase is pb.PodPhase.GENERIC


ATTACKS = """
const fs = require('node:fs');
const { execFileSync, spawnSync } = require('node:child_process');
const volume = VOLUME;
const attempts = {
  'write a bundle': () => fs.writeFileSync(__filename, ''),
  'write beside its bundle': () => fs.writeFileSync(__dirname + '/x', ''),
  'write to the volume': () => fs.writeFileSync(volume + '/x', ''),
  'list bundles': () => fs.readdirSync(volume + '/bundles'),
  'read another bundle': () => fs.readFileSync(OTHER + '/function.js'),
  'list control sockets': () => fs.readdirSync(volume + '/run'),
  'hold the lock': () => fs.openSync(volume + '/run/lock', 'r'),
  'meet the sidecar': () => fs.openSync(volume + '/meet/orders', 'r'),
  'look into the keeper': () => fs.readFileSync('/proc/1/environ'),
  'take the keeper s files': () => fs.openSync('/proc/1/fd/3', 'r'),
  'write to the keeper s memory': () => fs.openSync('/proc/1/mem', 'r+'),
};
module.exports = (req, res) => {
  const done = [];
  for (const [what, attempt] of Object.entries(attempts)) try { attempt(); done.push(what); } catch {}
  res.json(done);
};
"""


@namespaces
@pytest.mark.skipif(os.getuid() != 0, reason="only root may take the users of two containers")
async def test_function_code_of_another_user_reaches_neither_the_sidecar_nor_other_bundles(
    pod: TwoContainers, bench: Bench
) -> None:
    mine = [*SIDECAR_USER, sys.executable, "-c", "import sanfran_sidecar.main"]
    if subprocess.run(mine, check=False, capture_output=True).returncode:  # noqa: ASYNC221
        pytest.skip("this Python can be read by its owner only")
    bench.path.chmod(0o755)
    (bench.path / "api.sock").chmod(0o777)
    pod.address = "127.0.0.1:0"
    for folder in (pod.volume, pod.scratch):  # as the kubelet makes it with fsGroup
        os.chown(folder, 0, VOLUME_GROUP)
        folder.chmod(0o2777)
    shell = bench.path / "sh"
    shutil.copy("/bin/sh", shell)
    shell.chmod(0o711)
    pod.start_keeper(str(shell), by=KEEPER_USER)
    sidecar = await pod.start_sidecar(by=SIDECAR_USER)
    pod.address = sidecar.rpc
    stub = await pod.stub()
    await stub.activate(bench.order("a1", pod.api.function("module.exports = () => 'a secret'")))
    (other,) = pod.volume.glob("bundles/*.*")
    await stub.recycle(pb.RecycleRequest(activation_id="a1"))
    source = ATTACKS.replace("VOLUME", f"'{pod.volume}'").replace("OTHER", f"'{other}'")
    answer = await stub.activate(bench.order("a2", pod.api.function(source, version=2)))
    assert answer.loaded is not None
    assert await bench.get(answer.loaded.address, "/fn/hello", "a2") == (200, "[]")
    state = await stub.recycle(pb.RecycleRequest(activation_id="a2"))
    assert state.phase is pb.PodPhase.GENERIC
    assert "may look into this shell" not in pod.said.read_text()


@contextmanager
def small_file_system(path: Path) -> Iterator[None]:
    """With 300 KB of room."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(path)]
    subprocess.run(mount, check=True)
    yield
    subprocess.run(["umount", "-l", str(path)], check=True)


def refused(pid_1: bool, **variables: str) -> str:
    """What the keeper says when it refuses to start."""
    command = [*NAMESPACES, "sh", str(KEEPER)] if pid_1 else ["sh", str(KEEPER)]
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "SANFRAN_NODE": str(find_node()), **variables},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert done.returncode != 0
    return done.stderr


def test_a_keeper_that_is_not_pid_1_refuses_to_start(tmp_path: Path) -> None:
    assert "not PID 1" in refused(False, SANFRAN_SCRATCH=str(tmp_path))


def test_a_keeper_names_the_variable_that_is_missing() -> None:
    assert "SANFRAN_SCRATCH" in refused(False)


@namespaces
def test_a_keeper_names_what_is_wrong_with_its_container(tmp_path: Path) -> None:
    good = {
        "SANFRAN_SCRATCH": str(tmp_path),
        "SANFRAN_RUNTIME": str(RUNTIME),
        "SANFRAN_SHARED": str(tmp_path),
    }
    assert "readOnly: true" in refused(True, **good)
    assert "SANFRAN_NODE" in refused(True, **{**good, "SANFRAN_NODE": "/no/node"})
    assert "SANFRAN_RUNTIME" in refused(True, **{**good, "SANFRAN_RUNTIME": "/no/file"})
    assert "SANFRAN_SHARED" in refused(True, **{**good, "SANFRAN_SHARED": "/no/folder"})
    assert "SANFRAN_SCRATCH" in refused(True, **{**good, "SANFRAN_SCRATCH": "/no/folder"})
    assert list(tmp_path.iterdir()) == []
