"""What a pod of two containers keeps apart, and what its keeper refuses to start with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from grpclib import GRPCError, Status
from sanfran_proto.sanfran import v1 as pb
from sanfran_sidecar.parts import RUNTIME
from sanfran_sidecar.process import find_node

from sidecar.tests.conftest import Bench
from sidecar.tests.keeper.conftest import KEEPER, NAMESPACES, TwoContainers, namespaces

VOLUME_GROUP = 60003


def as_user(uid: int) -> list[str]:
    """A command that runs its arguments without root's rights."""
    rights = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", f"--groups={VOLUME_GROUP}", *rights]


# setpriv has root's capabilities until its exec, and could read what its arguments' user cannot. In a
# container they have gone before.
KEEPER_USER = [*as_user(60001), "sh", "-c", 'exec "$0" "$@"']
SIDECAR_USER = as_user(60002)


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
