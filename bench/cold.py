"""Cold calls: functions never called before, one after another, seen by the client."""

import http.client
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from bench.figures import histogram, percentile
from tests.engine import Engine, engine
from tests.parts import node_binary

CODE = "module.exports = (req, res) => res.send(`Hello ${req.query.name ?? 'World'} from %s`);"
P50, P99, RATIO = 5.0, 15.0, 0.25
"""Targets: milliseconds, and of spawning `node -e 0`."""
PAUSE = 0.3
"""Seconds between calls, in which the pool is refilled on the same cores. Beyond a hundred pods each call also ends
another function's pod, after 0.1 s, and starts a process in its place: that is over by then."""


def measure(functions: int) -> list[float]:
    """Milliseconds of the first call of each function, the engine being warm."""
    with tempfile.TemporaryDirectory() as folder:
        with engine(Path(folder) / "data", "--pool-size", "8") as running:
            names = [f"cold-{number}" for number in range(functions)]
            for name in ["warm-up", *names]:
                create(running, name)
            address = urlsplit(running.url)
            connection = http.client.HTTPConnection(address.hostname or "", address.port)
            call(connection, "warm-up")
            took = []
            for name in names:
                time.sleep(PAUSE)
                began = time.perf_counter()
                call(connection, name)
                took.append((time.perf_counter() - began) * 1000)
            connection.close()
            return took


def create(running: Engine, name: str) -> None:
    """Deploys a function that no other function shares its bundle with."""
    httpx.post(
        f"{running.api}/api/v1/functions",
        data={"name": name},
        files={"file": (f"{name}.js", (CODE % name).encode())},
    ).raise_for_status()


def call(connection: http.client.HTTPConnection, name: str) -> None:
    """One request; anything but the function's own answer ends the benchmark."""
    connection.request("GET", f"/fn/{name}?name=Vik")
    answer = connection.getresponse()
    body = answer.read().decode()
    if answer.status != 200 or body != f"Hello Vik from {name}":
        raise RuntimeError(f"{name}: {answer.status} {body}")


def spawn_node(times: int) -> list[float]:
    """Milliseconds from spawning `node -e 0` to its end: what a peer without a pool pays at least."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([node_binary(), "-e", "0"], check=True)
        took.append((time.perf_counter() - began) * 1000)
    return sorted(took)


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    took = measure(20 if quick else 300)
    reference = percentile(spawn_node(10 if quick else 40), 50)
    ordered = sorted(took)
    p50, p90, p99 = (percentile(ordered, percent) for percent in (50, 90, 99))
    print(f"Cold call, {len(took)} functions never called before, {PAUSE * 1000:.0f} ms apart")
    print(histogram(took))
    print(
        f"  p50 {p50:.1f} ms (target: under {P50:g}), p90 {p90:.1f} ms,"
        f" p99 {p99:.1f} ms (target: under {P99:g})"
    )
    print(
        f"  spawning `node -e 0`: p50 {reference:.1f} ms; a cold call is {p50 / reference:.2f} x"
        f" (target: under {RATIO:g})"
    )
