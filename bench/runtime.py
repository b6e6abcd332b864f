"""The runtime beside what it is measured by: a raw Node server, functions-framework, a bare Node process.

The same handler answers the same requests in each, loaded in turn in short rounds. How soon a generic process is
ready counts from its start to its word that it is warm, beside a Node that only says that it runs.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

from bench.figures import cpu_seconds
from bench.stage import HELLO, Stage, Way, accepts, free_port, generate
from tests.parts import child, node_binary

CONNECTIONS = 16
MOST_CPU, LEAST_RATE, MOST_TIME = 1.6, 5.0, 2.2
ROOT = Path(__file__).parents[1]
RUNTIME = ROOT / "sidecar/sanfran_sidecar/node/runtime.cjs"
FRAMEWORK = (
    ROOT / "runtime/test/packages/node_modules/@google-cloud/functions-framework/build/src/main.js"
)
FRAMEWORK_MISSING = "functions-framework is not installed (python hatch_build.py)"
RAW = """
const { parse } = require('node:querystring');
require('node:http').createServer((req, res) => {
  res.end('Hello ' + parse(req.url.slice(req.url.indexOf('?') + 1)).name);
}).listen(process.argv[1], '127.0.0.1');
"""
BARE = "console.log(1); setInterval(() => {}, 1000)"


@asynccontextmanager
async def server(name: str, *command: str | Path, port: int) -> AsyncIterator[Way]:
    """A Node server of somebody else's."""
    env = {"PATH": os.environ["PATH"], "NODE_ENV": "production"}
    async with child(node_binary(), *command, env=env, stdout=subprocess.DEVNULL) as process:
        await accepts(port)
        yield Way(name, process.pid, f"127.0.0.1:{port}", {})


async def cost(way: Way, seconds: float) -> tuple[float, float]:
    """Microseconds of CPU per request, and requests per second."""
    before = cpu_seconds(way.pid)
    figures = await generate(
        "load", address=way.address, headers=way.headers, connections=CONNECTIONS, seconds=seconds
    )
    return (cpu_seconds(way.pid) - before) / figures["requests"] * 1e6, figures["per_second"]


async def measure(rounds: int, seconds: float) -> list[dict[str, tuple[float, float]]]:
    """What each server costs and does, in each round."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stage = await stack.enter_async_context(Stage())
        port = free_port()
        raw = server("raw", "-e", RAW, str(port), port=port)
        ways = [stage.direct, await stack.enter_async_context(raw)]
        if FRAMEWORK.exists():
            (folder / "index.js").write_text(HELLO.replace("module.exports", "exports.hello"))
            port = free_port()
            flags = (f"--source={folder}", "--target=hello", f"--port={port}")
            framework = server("framework", FRAMEWORK, *flags, port=port)
            ways.append(await stack.enter_async_context(framework))
        for way in ways:
            await cost(way, min(seconds, 0.5))  # not counted: connections, compiled code
        return [{way.name: await cost(way, seconds) for way in ways} for _ in range(rounds)]


def generic() -> ExitStack:
    """A runtime process that is generic and warm; it ends with what is returned."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        control = f"{folder}/control"
        listener.bind(control)
        listener.listen()
        listener.settimeout(20)
        env = {"PATH": os.environ["PATH"], "SANFRAN_CONTROL": control, "SANFRAN_HTTP_PORT": "0"}
        # A session of its own: the runtime ends its process group when the connection closes.
        stack.enter_context(
            subprocess.Popen([node_binary(), RUNTIME], env=env, cwd=folder, start_new_session=True)
        )
        connection = stack.enter_context(listener.accept()[0])
        said = stack.enter_context(connection.makefile("rb")).readline()
        if b'"ready"' not in said:
            raise RuntimeError(f"the runtime said {said!r}")
        return stack.pop_all()


def until_ready() -> float:
    """Milliseconds from the start of a runtime process until it is generic and warm."""
    began = time.perf_counter()
    with generic():
        return (time.perf_counter() - began) * 1000


def until_output() -> float:
    """Milliseconds until a bare Node has said something."""
    began = time.perf_counter()
    with subprocess.Popen([node_binary(), "-e", BARE], stdout=subprocess.PIPE) as bare:
        assert bare.stdout is not None
        bare.stdout.readline()
        took = (time.perf_counter() - began) * 1000
        bare.kill()
    return took


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    found = asyncio.run(measure(rounds=1 if quick else 9, seconds=0.1 if quick else 1.5))
    print(f"One handler in three servers, {CONNECTIONS} keep-alive connections, in turn")
    for name in found[0]:
        cpu, rate = (median(one[name][n] for one in found) for n in (0, 1))
        print(f"  {name:>9}: {cpu:6.1f} µs of CPU per request, {rate:7.0f} requests/s")
    ratio = median(one["direct"][0] / one["raw"][0] for one in found)
    print(f"  runtime / raw Node: {ratio:.2f} x the CPU (target: at most {MOST_CPU})")
    if "framework" in found[0]:
        ratio = median(one["direct"][1] / one["framework"][1] for one in found)
        print(
            f"  runtime / functions-framework: {ratio:.1f} x the requests/s (target: at least {LEAST_RATE:g})"
        )
    else:
        print(f"  {FRAMEWORK_MISSING}")
    starts = [(until_ready(), until_output()) for _ in range(3 if quick else 40)]
    ours, bare = (median(one[n] for one in starts) for n in (0, 1))
    ratio = median(ready / output for ready, output in starts)
    print(
        f"  a generic process is ready after {ours:.0f} ms, bare node runs after {bare:.0f} ms:"
        f" {ratio:.2f} x (target: at most {MOST_TIME})"
    )
