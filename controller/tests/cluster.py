"""A cluster in memory: an API server on `kmock`, and a kubelet with simulated pods behind real gRPC.

`kmock` brings HTTP, the record of all requests, and answers that a test puts in place of the usual ones. What it
lacks is here: versions and conflicts, selectors, preconditions, graceful deletion, watches with bookmarks and 410.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp.web
import attrs
import kmock
from sanfran_common.lifecycle import OwnedTasks
from sanfran_common.rpc.server import RpcServer
from sanfran_common.rpc.term import TermFence

from controller.tests.simulated import Changes, SimHost, SimPod

Object = dict[str, Any]
NAMESPACE, RELEASE = "functions", "test"
PORT = 8084
NUMBERS = itertools.count(1)
"""Of pods' addresses, none of which is used twice."""
TEMPLATE = f"""
metadata:
  labels:
    sanfran.dev/release: {RELEASE}
    app.kubernetes.io/name: sanfran
spec:
  containers:
    - name: runtime
      image: sanfran-runtime
    - name: sidecar
      image: sanfran-sidecar
      ports:
        - name: grpc
          containerPort: {PORT}
"""


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason

    def status(self) -> Object:
        return {
            "kind": "Status",
            "status": "Failure",
            "code": self.code,
            "reason": self.reason,
            "message": str(self),
        }


class Objects:
    """All objects by kind and name, and what happened to them."""

    def __init__(self) -> None:
        self.of: dict[str, dict[str, Object]] = {}
        self.version = 1000
        self.forgotten = 0  # up to this version
        self.history: list[tuple[int, str, str, Object]] = []
        self.changes = Changes()
        self.on_change: Callable[[str, str, Object], None] = lambda kind, event, new: None

    def record(self, kind: str, event: str, new: Object) -> Object:
        self.version += 1
        new["metadata"]["resourceVersion"] = str(self.version)
        if event == "DELETED":
            del self.of[kind][new["metadata"]["name"]]
        else:
            self.of.setdefault(kind, {})[new["metadata"]["name"]] = new
        self.history.append((self.version, kind, event, new))
        self.on_change(kind, event, new)
        self.changes.tell()
        return new

    def forget(self) -> None:
        """Watches from before now get 410."""
        self.forgotten = self.version
        self.history.clear()

    def get(self, kind: str, name: str) -> Object:
        try:
            return self.of[kind][name]
        except KeyError:
            raise Refused(404, "NotFound", f"{kind} {name} not found") from None

    def create(self, kind: str, new: Object) -> Object:
        name = new["metadata"]["name"]
        if name in self.of.get(kind, {}):
            raise Refused(409, "AlreadyExists", f"{kind} {name} already exists")
        new["metadata"].update(uid=secrets.token_hex(8), namespace=NAMESPACE)
        return self.record(kind, "ADDED", new)

    def change(self, kind: str, name: str, patch: Object) -> Object:
        """A JSON merge patch."""
        now, meta = self.get(kind, name), patch.get("metadata", {})
        for field in ("uid", "resourceVersion"):
            if field in meta and meta[field] != now["metadata"][field]:
                raise Refused(409, "Conflict", f"{field} of {name} is another one")
        return self.record(kind, "MODIFIED", merged(now, patch))

    def replace(self, kind: str, name: str, new: Object) -> Object:
        now = self.get(kind, name)
        if new["metadata"]["resourceVersion"] != now["metadata"]["resourceVersion"]:
            raise Refused(409, "Conflict", "the object has been modified")
        return self.record(kind, "MODIFIED", copy.deepcopy(new))

    def delete(self, kind: str, name: str, options: Object) -> Object:
        now = self.get(kind, name)
        for field, wanted in (options.get("preconditions") or {}).items():
            if now["metadata"][field] != wanted:
                raise Refused(409, "Conflict", f"{field} of {name} is another one")
        if kind != "pods" or options.get("gracePeriodSeconds") == 0:
            return self.remove(kind, name)
        return self.change(kind, name, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})

    def remove(self, kind: str, name: str) -> Object:
        """At once."""
        return self.record(kind, "DELETED", copy.deepcopy(self.get(kind, name)))


def merged(now: Any, patch: Any) -> Any:
    if not isinstance(patch, dict) or not isinstance(now, dict):
        return copy.deepcopy(patch)
    both = {**now, **{key: merged(now.get(key), value) for key, value in patch.items()}}
    return {key: value for key, value in both.items() if value is not None}


def selected(new: Object, selector: str) -> bool:
    labels = new["metadata"].get("labels") or {}
    for part in selector.split(","):
        key, equals, value = part.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


@attrs.define(kw_only=True)
class ApiServer(kmock.RawHandler):
    """What a test puts on it by the means of `kmock` comes first; the rest is served from `objects`."""

    objects: Objects = attrs.field(factory=Objects)
    bookmark_every: float = 0.2
    silent: bool = False  # watches say nothing
    away: bool = False  # 503 to everything
    page: int = 1000
    held: asyncio.Event | None = None  # writes wait for it
    on_create: Callable[[], Awaitable[aiohttp.web.Response | None]] | None = None  # of a pod
    _watches: set[asyncio.Event] = attrs.field(factory=set)

    def cut(self) -> None:
        """Every watch ends."""
        for cut in self._watches:
            cut.set()

    def writes(self) -> list[str]:
        """What was asked for, apart from reading: method and path."""
        return [
            f"{one.method.value} {one.url.path.rpartition(NAMESPACE + '/')[2]}"
            for one in self._requests
            if one.method.value != "GET"
        ]

    async def _handle(self, request: Any) -> Any:
        try:
            return await super()._handle(request)
        except NotImplementedError:
            pass
        if self.away:
            return aiohttp.web.json_response({"message": "away"}, status=503)
        create = request.method.value == "POST" and request.url.path.endswith("/pods")
        if create and self.on_create is not None and (answer := await self.on_create()):
            return answer
        if self.held is not None and request.method.value != "GET":
            await self.held.wait()
        if request.params.get("watch") == "true":
            kind = request.url.path.rpartition("/")[2]
            return await kmock.Response(payload=self._watch(kind, request.params))(request)
        return self._answer(request)

    def _answer(self, request: Any) -> aiohttp.web.Response:
        kind, _, name = request.url.path.rpartition(f"/{NAMESPACE}/")[2].partition("/")
        try:
            found = self._call(request.method.value, kind, name, request.params, request.data)
            return aiohttp.web.json_response(found)
        except Refused as refused:
            return aiohttp.web.json_response(refused.status(), status=refused.code)

    def _call(self, method: str, kind: str, name: str, params: Any, data: Any) -> Any:
        match method, name:
            case "GET", "":
                return self._page(kind, params)
            case "GET", _:
                return self.objects.get(kind, name)
            case "POST", _:
                return self.objects.create(kind, data)
            case "PATCH", _:
                return self.objects.change(kind, name, data)
            case "PUT", _:
                return self.objects.replace(kind, name, data)
            case "DELETE", _:
                return self.objects.delete(kind, name, data or {})
        raise Refused(405, "MethodNotAllowed", method)

    def _page(self, kind: str, params: Any) -> Object:
        start = int(params.get("continue") or 0)
        found = [
            one
            for one in self.objects.of.get(kind, {}).values()
            if selected(one, params["labelSelector"])
        ]
        end = start + min(self.page, int(params.get("limit", "1000")))
        meta: Object = {"resourceVersion": str(self.objects.version)}
        if end < len(found):
            meta["continue"] = str(end)
        return {"kind": "List", "metadata": meta, "items": found[start:end]}

    async def _watch(self, kind: str, params: Any) -> AsyncIterator[bytes]:
        since = int(params["resourceVersion"])
        cut = asyncio.Event()
        self._watches.add(cut)
        yield b""
        try:
            if since < self.objects.forgotten:
                yield line("ERROR", Refused(410, "Expired", "too old resource version").status())
                return
            at = len(self.objects.history)
            while at and self.objects.history[at - 1][0] > since:
                at -= 1
            while not cut.is_set():
                while self.silent and not cut.is_set():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                history = self.objects.history
                at = min(at, len(history))  # it was forgotten
                for _, of, event, new in history[at:]:
                    if of == kind and selected(new, params["labelSelector"]):
                        yield line(event, new)
                at = len(history)
                try:
                    async with asyncio.timeout(self.bookmark_every):
                        await self.objects.changes.next()
                except TimeoutError:
                    meta = {"resourceVersion": str(self.objects.version)}
                    if not self.silent:
                        yield line("BOOKMARK", {"kind": kind, "metadata": meta})
        finally:
            self._watches.discard(cut)


def line(event: str, new: Object) -> bytes:
    return json.dumps({"type": event, "object": new}).encode() + b"\n"


class Kubelet:
    """One node, where pods run on addresses 127.x.y.z. The knobs are attributes."""

    def __init__(self, objects: Objects, host: SimHost) -> None:
        self.host = host  # what the pods do
        self.room = 100_000
        self.starts = True  # False: containers stay as they are
        self.listens = True  # False: containers run, and nothing in them listens yet
        self.start_delay = 0.02
        self.end_delay = 0.02
        self._objects = objects
        self._tasks = OwnedTasks("kubelet")
        self._running: dict[str, SimPod] = {}
        objects.on_change = self._changed

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._tasks.__aexit__(kind, error, trace)
        for pod in self._running.values():
            await self._kill(pod)

    def _changed(self, kind: str, event: str, new: Object) -> None:
        name = new["metadata"]["name"]
        if kind != "pods":
            return
        if event == "ADDED":
            self._tasks.spawn(self._start(name, new["metadata"]["uid"]), name=f"start {name}")
        elif event == "DELETED" or "deletionTimestamp" in new["metadata"]:
            self._tasks.spawn(self._end(name), name=f"end {name}")

    async def _start(self, name: str, uid: str) -> None:
        if len(self._running) >= self.room:
            no = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/1 nodes are available: Insufficient memory.",
            }
            self.status(name, {"phase": "Pending", "conditions": [no]})
            while len(self._running) >= self.room:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        if not self._there(name, uid):
            return
        number = next(NUMBERS)
        if (former := self._running.pop(name, None)) is not None:
            await self._kill(former)
        pod = SimPod(name, "", self.host)
        self._running[name] = self.host.pods[name] = pod
        await asyncio.sleep(self.start_delay)
        while not self.starts:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        # Several test processes at a time share the machine.
        ip = f"127.{1 + os.getpid() % 250}.{number // 250}.{1 + number % 250}"
        if not self._there(name, uid):
            return
        if not self.listens:
            self.status(name, running(ip, name))
        while not self.listens:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        server = RpcServer([pod], f"{ip}:{PORT}", fence=TermFence())
        listening = asyncio.ensure_future(server.__aenter__())
        try:
            await asyncio.shield(listening)
        finally:
            pod.server = await listening  # also when the test is over in this moment
        self.status(name, running(ip, name))

    def _there(self, name: str, uid: str) -> bool:
        now = self._objects.of["pods"].get(name)
        return (
            now is not None
            and now["metadata"]["uid"] == uid
            and ("deletionTimestamp" not in now["metadata"])
        )

    def status(self, name: str, status: Object) -> None:
        """Writes a pod's status."""
        if name in self._objects.of["pods"]:
            self._objects.change("pods", name, {"status": status})

    async def _end(self, name: str) -> None:
        await asyncio.sleep(self.end_delay)
        pod = self._running.pop(name, None)
        if pod is not None:
            self.host.pods.pop(name, None)
            await self._kill(pod)
        if name in self._objects.of["pods"]:
            self._objects.remove("pods", name)
        self.host.changes.tell()

    async def _kill(self, pod: SimPod) -> None:
        server, pod.server = pod.server, None
        if server is not None:
            await server.__aexit__(None, None, None)
        pod.forget_load()


def running(ip: str, name: str, **sidecar: Any) -> Object:
    """The status of a pod whose containers run."""
    now = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    return {
        "phase": "Running",
        "podIP": ip,
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [
            {"name": "runtime", "containerID": f"r-{name}", "restartCount": 0, "state": now},
            {
                "name": "sidecar",
                "containerID": f"s-{name}",
                "restartCount": 0,
                "state": now,
                **sidecar,
            },
        ],
    }


def kubeconfig(folder: Path, url: str) -> Path:
    """A file for the client."""
    path = folder / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    return path
