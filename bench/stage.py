"""What stands on stage for the router's benchmarks: one real runtime, and in front of it routers and nginx.

Everything listens on loopback, and ends with the `async with`, also on Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from sanfran_proto.sanfran import v1 as pb

from bench.load import function_name
from tests.parts import OneFunction, child, router, runtime

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
HELLO = "module.exports = (req, res) => res.send(`Hello ${req.query.name}`);"
ACTIVATION = "bench-activation"
NGINX_MISSING = "nginx is not installed (Debian: apt-get install nginx-light)"
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
  fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  keepalive_requests 1000000000; client_max_body_size 0; client_body_buffer_size 64k;
  upstream node {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://node; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Request-Id $request_id; proxy_set_header x-sanfran-activation {activation};
      proxy_request_buffering off; proxy_buffers 16 64k; proxy_max_temp_file_size 0;
    }}
  }}
}}
"""
"""Does what the router does to a head, and streams bodies through memory, never over a disk."""
FIXED = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type text/html;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "Hello Vik"; }} }}
}}
"""
"""Answers at once, and at a third of the runtime's CPU."""


class Way(NamedTuple):
    """One way to the function: `pid` of what stands at `address`, and what to send with a request."""

    name: str
    pid: int
    address: str
    headers: dict[str, str]


class ManyFunctions(OneFunction):
    """A controller that tells many functions, all of them at the same address.

    Args:
        where: address and activation id.
        count: functions, named as `bench.load` calls them.
    """

    def __init__(self, where: tuple[str, str], count: int) -> None:
        super().__init__(where)
        self._address, self._activation = where
        self._count = count

    async def watch_routes(self, message: pb.WatchRoutesRequest) -> AsyncIterator[pb.RouteEvent]:
        yield pb.RouteEvent(route=self._told)
        for number in range(self._count):
            told = self._route(1, (self._address, self._activation))
            told.name = function_name(number)
            yield pb.RouteEvent(route=told)
        yield pb.RouteEvent(synced=pb.RoutesSynced(controller="played"))
        await asyncio.Event().wait()


class Stage:
    """The runtime, with what is put in front of it.

    Args:
        code: of the function, `hello`.
    """

    def __init__(self, code: str = HELLO) -> None:
        self._code = code
        self._stack = contextlib.AsyncExitStack()
        self.direct: Way
        """To the runtime itself."""

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as opening:
            started = runtime(self._folder(opening), ACTIVATION, "hello", self._code)
            pod = await opening.enter_async_context(started)
            self.direct = Way("direct", pod.pid, pod.address, {"x-sanfran-activation": ACTIVATION})
            self._stack = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @staticmethod
    def _folder(stack: contextlib.AsyncExitStack) -> Path:
        return Path(stack.enter_context(tempfile.TemporaryDirectory()))

    async def router(self, name: str = "router", *flags: str, functions: int = 0) -> Way:
        """Starts a router that knows `hello` and that many functions more."""
        controller = ManyFunctions((self.direct.address, ACTIVATION), functions)
        # A small limit of open files is warned of, and does not matter here.
        flags = ("--log-level", "error", *flags)
        started = router(controller, self._folder(self._stack), *flags)
        pid, address = await self._stack.enter_async_context(started)
        return Way(name, pid, address, {})

    async def nginx(self) -> Way | None:
        """Starts nginx as a proxy; None where it is not installed."""
        return await self._nginx(NGINX, "nginx", upstream=self.direct.address)

    async def fixed(self) -> bool:
        """Puts an nginx that always says the same in the runtime's place; False: not installed."""
        way = await self._nginx(FIXED, "direct")
        self.direct = way or self.direct
        return way is not None

    async def _nginx(self, config: str, name: str, **options: str) -> Way | None:
        binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if binary is None:
            return None
        folder, port = self._folder(self._stack), free_port()
        text = config.format(folder=folder, port=port, activation=ACTIVATION, **options)
        (folder / "nginx.conf").write_text(text)
        command = (binary, "-c", f"{folder}/nginx.conf", "-p", str(folder))
        process = await self._stack.enter_async_context(child(*command))
        await accepts(port)
        return Way(name, process.pid, f"127.0.0.1:{port}", {})


@contextlib.contextmanager
def on_cores(*, first: bool) -> Iterator[None]:
    """What is started inside the block runs on the first core, or on all others (Linux)."""
    if not hasattr(os, "sched_setaffinity") or len(CORES) < 2:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES[:1] if first else CORES[1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def generate(module: str, **options: Any) -> dict[str, float]:
    """Runs a load generator of this folder in a process of its own.

    Args:
        module: its name; takes its options as one JSON argument, and prints its figures as JSON.

    Raises:
        RuntimeError: it failed; it has said why on stderr.
    """
    command = (sys.executable, "-m", f"bench.{module}", json.dumps(options))
    async with child(*command, stdout=asyncio.subprocess.PIPE) as process:
        out, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the load generator {module} failed")
    figures: dict[str, float] = json.loads(out)
    return figures


def free_port() -> int:
    """A TCP port that nothing listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def accepts(port: int) -> None:
    """Waits until something listens."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
