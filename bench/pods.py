"""What a generic pod costs: memory, and the time until the pool is full again."""

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from bench.figures import percentile
from tests.engine import Engine, engine
from tests.parts import node_binary

POOL = 8


def private_memory(pid: int) -> float:
    """Megabytes that would be free again if the process ended (unique set size)."""
    uss: int = psutil.Process(pid).memory_full_info().uss
    return uss / 1e6


def refill(running: Engine, times: int) -> list[float]:
    """Milliseconds from killing a generic pod's process to a full pool of other processes."""
    took = []
    for _ in range(times):
        before = {process.pid for process in running.nodes()}
        victim = next(iter(before))
        began = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        while True:
            now = {process.pid for process in running.nodes()}
            if len(now) == POOL and victim not in now:
                break
            time.sleep(0.002)
            if time.perf_counter() - began > 30:
                raise RuntimeError("the pool was not refilled within 30 s")
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
            while len(running.nodes()) < POOL:
                time.sleep(0.05)
            time.sleep(0.5)
            memory = sorted(private_memory(process.pid) for process in running.nodes())
            host = private_memory(running.service_pid("pod-host"))
            took = refill(running, 3 if quick else 20)
    bare = bare_node()
    pod = percentile(memory, 50)
    print(f"Generic pods, pool of {POOL}")
    print(f"  memory of a pod's process {pod:.1f} MB; bare node {bare:.1f} MB; {pod / bare:.2f} x")
    print(f"  memory of the pod host with {POOL} sidecars {host:.1f} MB")
    print(f"  a killed pod's process replaced: p50 {percentile(took, 50):.0f} ms")
