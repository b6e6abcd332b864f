"""CPU of the router per warm request, beside nginx doing the same, in one run.

    .venv/bin/python -m bench.router_cpu [--seconds 5] [--connections 16]

Router and nginx (when it is installed) stand in front of the same bare Node server, with
keep-alive on both sides. wrk makes the load. Rates drift with the machine; CPU time of the proxy's
process over the requests that it served does not much, and their ratio least.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import psutil
from sanfran_common.config import split_host_port

from tests.parts import OneFunction, child, node_binary, router

UPSTREAM = """
const http = require('node:http');
const server = http.createServer((req, res) => {
  const body = 'Hello Vik';
  res.setHeader('Content-Type', 'text/html; charset=utf-8');
  res.setHeader('Content-Length', Buffer.byteLength(body));
  res.end(body);
});
server.keepAliveTimeout = 65000;
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
"""
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
  fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  keepalive_requests 1000000000;
  upstream node {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://node; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Request-Id $request_id;
    }}
  }}
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def accepts(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


def cpu_seconds(pid: int) -> float:
    """Of a process and its children."""
    root = psutil.Process(pid)
    times = [one.cpu_times() for one in (root, *root.children(recursive=True))]
    return sum(one.user + one.system for one in times)


async def load(port: int, seconds: float, connections: int) -> tuple[int, float]:
    """Requests served, and requests per second."""
    url = f"http://127.0.0.1:{port}/fn/hello?name=Vik"
    wrk = await asyncio.create_subprocess_exec(
        "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url, stdout=asyncio.subprocess.PIPE
    )
    out = (await wrk.communicate())[0].decode()
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(f"the load met errors:\n{out}")
    served = re.search(r"(\d+) requests in", out)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert served is not None, out
    assert rate is not None, out
    return int(served[1]), float(rate[1])


async def measure(name: str, port: int, pid: int, options: argparse.Namespace) -> float:
    await load(port, 1, options.connections)
    before = cpu_seconds(pid)
    served, rate = await load(port, options.seconds, options.connections)
    cost = (cpu_seconds(pid) - before) / served * 1e6
    print(f"{name:<10} {cost:6.1f} µs CPU/request {rate:9.0f} requests/s")
    return cost


async def run(options: argparse.Namespace) -> None:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node = await stack.enter_async_context(
            child(node_binary(), "-e", UPSTREAM, stdout=asyncio.subprocess.PIPE)
        )
        assert node.stdout is not None
        upstream = int(await node.stdout.readline())
        await measure("direct", upstream, node.pid, options)

        controller = OneFunction((f"127.0.0.1:{upstream}", "bench"))
        pid, address = await stack.enter_async_context(router(controller, folder))
        ours = await measure("router", split_host_port(address)[1], pid, options)

        nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if nginx is None:
            print("nginx      not installed")
            return
        port = free_port()
        (folder / "nginx.conf").write_text(
            NGINX.format(folder=folder, upstream=upstream, port=port)
        )
        peer = await stack.enter_async_context(
            child(nginx, "-c", f"{folder}/nginx.conf", "-p", str(folder))
        )
        await accepts(port)
        theirs = await measure("nginx", port, peer.pid, options)
        print(f"router/nginx CPU: {ours / theirs:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed (apt-get install wrk)")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
