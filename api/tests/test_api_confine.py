"""What a build may do to the machine: see `confine`. Its own process, with the npm's Node or with a shell."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from sanfran_api.builds.npm import CONFINE, find_node

LANDLOCK = (
    sys.platform == "linux" and ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) > 0
)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")

TRIES = """
const fs = require('fs'), out = {};
const attempt = (name, work) => { try { work(); out[name] = 'done'; } catch (error) { out[name] = error.code; } };
const [store, work] = process.argv.slice(1);
attempt('read the store', () => fs.readFileSync(`${store}/data.mdb`));
attempt('list the store', () => fs.readdirSync(store));
attempt('write the store', () => fs.writeFileSync(`${store}/x`, ''));
attempt('link to the store', () => { fs.symlinkSync(store, `${work}/link`); fs.readdirSync(`${work}/link`); });
attempt('environment of the parent', () => fs.readFileSync(`/proc/${process.ppid}/environ`));
attempt('passwords', () => fs.readFileSync('/etc/shadow'));
attempt('a name', () => fs.readFileSync('/etc/hosts'));
attempt('its own folder', () => fs.writeFileSync(`${work}/x`, 'x'));
attempt('a large file', () => fs.writeFileSync(`${work}/large`, Buffer.alloc(3_000_000)));
console.log(JSON.stringify(out));
"""


def command(work: Path, *argv: str) -> list[str]:
    node = find_node()
    return [
        *(sys.executable, "-I", "-S", str(CONFINE), str(os.getpid()), "2000000"),
        *("--write", str(work), "--read", str(node.parent.parent), "--", str(node), *argv),
    ]


@pytest.mark.skipif(not LANDLOCK, reason="the kernel has no Landlock")
def test_a_build_sees_its_folder_and_the_system_and_no_store(tmp_path: Path) -> None:
    store, work = tmp_path / "store", tmp_path / "store/builds/work"
    work.mkdir(parents=True)
    (store / "data.mdb").write_text("secret")
    done = subprocess.run(
        command(work, "-e", TRIES, str(store), str(work)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {
        "read the store": "EACCES",
        "list the store": "EACCES",
        "write the store": "EACCES",
        "link to the store": "EACCES",
        "environment of the parent": "EACCES",
        "passwords": "EACCES",
        "a name": "done",
        "its own folder": "done",
        "a large file": "EFBIG",
    }


@LINUX
def test_a_build_has_no_capability_and_goes_first_when_memory_is_short(tmp_path: Path) -> None:
    script = "const read = (file) => require('fs').readFileSync(`/proc/self/${file}`, 'utf8');"
    script += "console.log(JSON.stringify([read('status'), read('oom_score_adj')]))"
    done = subprocess.run(
        command(tmp_path, "-e", script), capture_output=True, text=True, check=True
    )
    status, score = json.loads(done.stdout)
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {int(facts[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {0}
    assert facts["NoNewPrivs"] == "1"
    assert int(score) == 800


@LINUX
def test_a_build_dies_with_a_service_that_is_killed(tmp_path: Path) -> None:
    line = command(tmp_path, "-e", "console.log(process.pid); setInterval(() => {}, 1000)")
    script = (
        "import os, subprocess, sys\n"
        f"line = {line!r}\n"
        "line[4] = str(os.getpid())\n"
        "subprocess.Popen(line).wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        build = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
        until = time.monotonic() + 20
        while build.is_running() and build.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < until, "it lives on"
            time.sleep(0.02)
