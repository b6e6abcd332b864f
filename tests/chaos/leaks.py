"""What the engine holds: processes, open files, sockets, folders, and what its parts know of one another.

Compared between the quiet beginning and the quiet end: whatever came and went must have left nothing.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from tests.chaos.functions import CHILD_SECONDS
from tests.engine import Engine

FILES_SPARE = 6
"""Open files that a service may have more than at the beginning: connections of this program, of scrapes."""
FILES_PER_POD = {"pod-host": 12, "controller": 4, "controller-2": 4}
"""For pods beyond those of the beginning, which the pool keeps for a while."""
SOCKETS_SPARE = 4
STABLE = 0.6
"""Seconds between two counts that have to be the same; a pod that ends answers for half a second more."""
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


@dataclass
class Census:
    """One count of everything."""

    files: dict[str, int] = field(default_factory=dict)
    sockets: dict[str, int] = field(default_factory=dict)
    workers: int = 0
    nodes: int = 0
    pods: dict[str, int] = field(default_factory=dict)
    """That the controllers know, by state."""
    target: int = 0
    """Generic pods that the controllers want."""
    hosted: int = 0
    """That the pod host knows."""
    pod_entries: int = 0
    """Folders and sockets of pods in the run folder."""
    in_routers: float = 0
    """Requests that routers take for running or waiting."""
    routed: float = 0
    """Functions in routers' tables."""
    strangers: list[str] = field(default_factory=list)
    """Processes that nobody should have left."""
    serving: list[str] = field(default_factory=list)
    """Functions that have pods, as REST tells it."""

    @property
    def quiet(self) -> bool:
        """Nothing serves, starts or ends, and all agree."""
        settled = all(state in ("generic", "gone") or not n for state, n in self.pods.items())
        generic = self.pods.get("generic", 0)
        return settled and generic == self.nodes == self.hosted and not self.in_routers

    def leaks(self, before: Census) -> Iterator[str]:
        """What there is more than at the beginning, in words."""
        more_pods = max(self.nodes - before.nodes, 0)
        if not self.quiet:
            yield (
                f"the parts do not agree: controllers {self.pods}, pod host {self.hosted}, "
                f"{self.nodes} Node processes, {self.in_routers:g} requests in routers"
            )
        if self.workers != before.workers:
            yield f"router workers: {self.workers}, {before.workers} before"
        for service, count in self.files.items():
            bound = before.files[service] + FILES_SPARE
            bound += more_pods * FILES_PER_POD.get(service, 0)
            if count > bound:
                yield f"open files of {service}: {count}, {before.files[service]} before"
        for service, count in self.sockets.items():
            bound = before.sockets[service] + SOCKETS_SPARE
            bound += more_pods * FILES_PER_POD.get(service, 0)
            if count > bound:
                yield f"sockets of {service}: {count}, {before.sockets[service]} before"
        if before.nodes and self.pod_entries * before.nodes > before.pod_entries * self.nodes:
            yield f"pods' folders and sockets: {self.pod_entries} for {self.nodes} pods"
        if self.strangers:
            yield f"processes left: {self.strangers}"
        if self.serving:
            yield f"functions with pods though idle: {self.serving}"


def scrape(address: str) -> dict[tuple[str, str], float]:
    """Metrics of a service: by name and labels. Nothing when it does not answer."""
    try:
        text = httpx.get(f"http://{address}/metrics", timeout=10).text
    except httpx.HTTPError:
        return {}
    return {(name, labels): float(value) for name, labels, value in _SAMPLE.findall(text)}


def count(engine: Engine) -> Census:
    """Counts everything, now."""
    census = Census()
    services = engine.run["services"]
    processes = {name: psutil.Process(one["pid"]) for name, one in services.items()}
    workers = processes["router"].children()
    census.workers = len(workers)
    for number, worker in enumerate(workers, start=1):
        processes[f"router worker {number}"] = worker
    for name, process in processes.items():
        census.files[name] = process.num_fds()
        census.sockets[name] = len(process.net_connections("all"))
    nodes = engine.nodes()
    census.nodes = len(nodes)
    for controller in engine.controllers():
        for (name, labels), value in scrape(services[controller]["admin"]).items():
            if name == "sanfran_controller_pool_target":
                census.target += int(value)
            if name == "sanfran_controller_pods":
                state = labels.removeprefix('state="').removesuffix('"')
                census.pods[state] = census.pods.get(state, 0) + int(value)
    host = scrape(services["pod-host"]["admin"])
    census.hosted = int(host.get(("sanfran_pod_host_pods", ""), -1))
    router = scrape(services["router"]["admin"])
    busy = ("sanfran_router_in_flight", "sanfran_router_queued")
    census.in_routers = sum(value for (name, _), value in router.items() if name in busy)
    census.routed = router.get(("sanfran_router_functions", ""), 0)
    run = Path(engine.run["run_folder"])
    census.pod_entries = len(list((run / "pods").glob("pod-*")))
    census.strangers = _strangers(engine, run)
    return census


def serving(engine: Engine) -> list[str]:
    """Functions that have pods, as REST tells it."""
    found, after = [], ""
    with httpx.Client(base_url=f"{engine.api}/api/v1", timeout=30) as rest:
        while True:
            page = rest.get("/functions", params={"limit": 1000, "after": after}).json()
            for one in page["functions"]:
                status = rest.get(f"/functions/{one['name']}").json().get("status", {})
                found += [one["name"]] if status.get("pods") else []
            if not (after := page["next_after"]):
                return found


async def settled(engine: Engine, seconds: float, *, pods: int) -> Census:
    """Counts again and again until all is quiet; gives what there is in the end.

    Args:
        seconds: to wait at most.
        pods: that there may be then beyond the pool's target.
    """
    until = time.monotonic() + seconds
    before = Census()
    while True:
        census = await asyncio.to_thread(count, engine)
        # Twice the same: what ends at this moment is closed one after the other.
        same = (census.nodes, census.files) == (before.nodes, before.files)
        if (
            same and census.quiet and census.nodes <= pods + census.target
        ) or time.monotonic() > until:
            census.serving = await asyncio.to_thread(serving, engine)
            return census
        before = census
        await asyncio.sleep(STABLE)


def _strangers(engine: Engine, run: Path) -> list[str]:
    """Children of functions, and processes that work in the run folder and belong to no pod."""
    ours = {one.pid for one in engine.processes()}
    found = []
    for process in psutil.process_iter():
        try:
            line, folder = process.cmdline(), process.cwd()
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        child = line[-1:] == [str(CHILD_SECONDS)]
        orphan = folder.startswith(str(run)) and process.pid not in ours
        if (child and folder.startswith(str(run))) or orphan:
            found.append(f"{process.pid} {' '.join(line)[:80]} in {folder}")
    return found
