"""What a generic pod costs: memory, and the time until the pool is full again."""

import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from bench.figures import percentile
from tests.engine import Engine, engine
from tests.parts import node_binary

POOL = 8


def private_memory(pid: int) -> float:
    """Megabytes that would be free again if the process ended (unique set size)."""
    uss: int = psutil.Process(pid).memory_full_info().uss
    return uss / 1e6


def generic(running: Engine) -> int:
    """Pods that are ready to be claimed, as the controller counts them."""
    metrics = httpx.get(f"http://{running.run['services']['controller']['admin']}/metrics").text
    found = re.search(r'^sanfran_controller_pods\{state="generic"\} (\d+)', metrics, re.MULTILINE)
    return int(found[1]) if found else 0


def until(running: Engine, pods: int) -> None:
    """Waits for that many generic pods."""
    given_up = time.monotonic() + 30
    while generic(running) != pods:
        if time.monotonic() > given_up:
            raise RuntimeError(f"no {pods} generic pods within 30 s")
        time.sleep(0.005)


def refill(running: Engine, times: int) -> list[float]:
    """Milliseconds from killing a generic pod's process to a full pool again."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        os.kill(running.nodes()[0].pid, signal.SIGKILL)
        until(running, POOL - 1)
        until(running, POOL)
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(0.3)
    return sorted(took)


def bare_node() -> float:
    """Memory of `node` that only stays alive."""
    with subprocess.Popen(
        [node_binary(), "-e", "setInterval(() => {}, 1000); console.log(1)"], stdout=-1
    ) as bare:
        assert bare.stdout is not None
        bare.stdout.readline()
        time.sleep(0.2)
        memory = private_memory(bare.pid)
        bare.kill()
    return memory


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    with tempfile.TemporaryDirectory() as folder:
        with engine(Path(folder) / "data", "--pool-size", str(POOL)) as running:
            until(running, POOL)
            memory = sorted(private_memory(process.pid) for process in running.nodes())
            host = private_memory(running.service_pid("pod-host"))
            bare = bare_node()  # beside the pods: they share the binary's pages
            took = refill(running, 3 if quick else 20)
    pod = percentile(memory, 50)
    print(f"Generic pods, pool of {POOL}")
    print(f"  memory of a pod's process {pod:.1f} MB; bare node {bare:.1f} MB; {pod / bare:.2f} x")
    print(f"  memory of the pod host with {POOL} sidecars {host:.1f} MB")
    print(f"  a killed pod replaced by a ready one: p50 {percentile(took, 50):.0f} ms")
