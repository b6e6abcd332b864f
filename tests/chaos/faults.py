"""What may go wrong, one thing at a time, and which requests each may cost.

A crash may only cost requests that were running on what died and may not be sent again. Everything that
is no crash (changes, scaling, recycling, SIGHUP, a second of standing still, a full disk) may cost none.
"""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import psutil

from tests.chaos.changes import Changes
from tests.chaos.functions import WARM
from tests.chaos.load import Call, Load
from tests.engine import Engine

HANG = 1.0
"""Seconds that a stopped process stands still."""
LONG_HANG = 8.0
"""Seconds: longer than a controller's lease (5), so that the other one adopts its pods."""
DEATH = 5.0
"""Seconds for a killed process to be gone."""
BACK = 30.0
"""Seconds for what was killed or replaced to be there again."""
NEWS = 0.02
"""Seconds until this program has seen that a connection is closed; what it sends before is lost."""
IDLE = 3.5
"""Seconds of silence: longer than the idle timeout, so that every function is recycled."""
DISK = 1.5
"""Seconds that the disk is full."""
STREAM_BROKEN = "broken within the answer"
POD_FAILED = "502 pod_failed"

Excuse = Callable[[Call], str]
"""Why a call may have failed; nothing when it may not."""


def nothing_is_excused(_: Call) -> str:
    """For what is no crash."""
    return ""


@dataclass(frozen=True, slots=True)
class Damage:
    """What a fault has done.

    Args:
        since: monotonic seconds, from when on recovery is measured.
        excuse: which calls it may cost.
        changes: which outcomes of changes it may bring, besides success.
        keeps: functions that are called all the time stay where they are.
        moves: functions may go back to their home controller later, in the time of the next fault.
    """

    since: float
    excuse: Excuse = nothing_is_excused
    changes: Sequence[str] = ()
    keeps: bool = False
    moves: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """What faults act on."""

    engine: Engine
    load: Load
    changes: Changes
    dice: random.Random

    def service(self, name: str) -> psutil.Process:
        """A service's process, which is a child of the engine that we have started."""
        process = psutil.Process(self.engine.service_pid(name))
        if process.ppid() != self.engine.process.pid:
            raise RuntimeError(f"{name}: pid {process.pid} is not of this engine")
        return process

    def workers(self) -> list[psutil.Process]:
        """The router's workers."""
        return self.service("router").children()

    def nodes(self) -> list[psutil.Process]:
        """The Node processes of all pods."""
        return self.engine.nodes()

    def node(self, function: str) -> psutil.Process | None:
        """The process that answered last for a function, if it lives."""
        pid = self.load.pids.get(function)
        return next((one for one in self.nodes() if one.pid == pid), None)


Fault = Callable[[Scene], Awaitable[Damage]]


# -- crashes


async def kill_node(scene: Scene) -> Damage:
    """kill -9 of a Node process that serves."""
    return await _kill_node_of(scene, scene.dice.choice(["quick", "slow", "stream", "record"]))


async def kill_family(scene: Scene) -> Damage:
    """The same where the function has children, which must go too."""
    return await _kill_node_of(scene, "family")


async def kill_generic(scene: Scene) -> Damage:
    """kill -9 of a Node process in the pool; costs nothing."""
    serving = set(scene.load.pids.values())
    waiting = [node for node in scene.nodes() if node.pid not in serving]
    if not waiting:
        return Damage(time.monotonic())
    since, died = await _kill(scene.dice.choice(waiting))
    # It may just have been claimed.
    return Damage(since, _ran_on_a_pod(None, died))


async def kill_pod_host(scene: Scene) -> Damage:
    """kill -9 of the pod host, which takes all pods with it."""
    nodes = scene.nodes()
    since, _ = await _kill(scene.service("pod-host"))
    await _gone(nodes)
    died = time.monotonic()

    def excuse(call: Call) -> str:
        if reason := _ran_on_a_pod(None, died)(call):
            return reason
        both = call.began <= died and call.outcome == POD_FAILED
        return "its pod died, and the one that it was retried on" if both else ""

    return Damage(since, excuse)


async def kill_controller(scene: Scene) -> Damage:
    """kill -9 of a controller; costs nothing."""
    since, _ = await _kill(scene.service(scene.dice.choice(scene.engine.controllers())))
    return Damage(since, changes=("stored",), keeps=True, moves=True)


async def kill_every_controller(scene: Scene) -> Damage:
    """kill -9 of all controllers at once; costs nothing."""
    killed = [scene.service(name) for name in scene.engine.controllers()]
    since = (await asyncio.gather(*map(_kill, killed)))[0][0]
    return Damage(since, changes=("stored",), keeps=True, moves=True)


async def kill_api(scene: Scene) -> Damage:
    """kill -9 of the api service; costs changes that are under way, and no call."""
    since, _ = await _kill(scene.service("api"))
    return Damage(since, changes=_API_AWAY, keeps=True)


async def kill_worker(scene: Scene) -> Damage:
    """kill -9 of a router worker; its connections break."""
    worker = scene.dice.choice(scene.workers())
    worker.suspend()  # so that what it holds does not change between the look and the end
    ports = {one.raddr.port for one in worker.net_connections("tcp") if one.raddr}
    since, _ = await _kill(worker)
    await asyncio.sleep(NEWS)
    told = time.monotonic()

    def excuse(call: Call) -> str:
        on_it = call.port in ports and call.began <= told
        return "its router worker died" if on_it and call.outcome.startswith("broken") else ""

    return Damage(since, excuse, keeps=True)


async def kill_router(scene: Scene) -> Damage:
    """kill -9 of the router's supervisor: the port is closed until there is a new one."""
    supervisor = scene.service("router")
    workers = supervisor.children()
    since, _ = await _kill(supervisor)
    await _gone(workers)

    def is_back() -> bool:
        router = scene.engine.run["services"]["router"]
        return bool(router["ready"]) and router["pid"] != supervisor.pid

    await _until(is_back, BACK)
    back = time.monotonic()

    def excuse(call: Call) -> str:
        away = call.ended >= since and call.began <= back
        if away and call.outcome == "refused":
            return "nobody listened"
        if away and call.outcome == "503 stopping":
            return "the router was about to be gone"
        if away and call.sent >= since and call.outcome.startswith("broken before"):
            return "its connection had not been accepted, or was idle"
        return ""

    return Damage(since, excuse)


async def _kill_node_of(scene: Scene, function: str) -> Damage:
    node = scene.node(function)
    if node is None:
        return Damage(time.monotonic())
    since, died = await _kill(node)
    return Damage(since, _ran_on_a_pod(function, died))


def _ran_on_a_pod(function: str | None, died: float) -> Excuse:
    """What was running on a pod when it died; of all functions when None."""

    def excuse(call: Call) -> str:
        if call.began > died or function not in (None, call.function):
            return ""
        if call.outcome.startswith(STREAM_BROKEN):
            return "its pod died after the first byte"
        if call.outcome == POD_FAILED and call.kind.method == "POST":
            return "its pod died, and it may not be retried"
        return ""

    return excuse


async def _kill(process: psutil.Process) -> tuple[float, float]:
    """Returns when it was killed and when it was gone, monotonic seconds."""
    since = time.monotonic()
    process.kill()
    await _gone([process])
    return since, time.monotonic()


async def _gone(processes: Sequence[psutil.Process]) -> None:
    await _until(lambda: not any(_lives(one) for one in processes), DEATH)


async def _until(happened: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not happened():  # noqa: ASYNC110  # other processes do not tell
            await asyncio.sleep(0.002)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# -- what stands still


async def hang_node(scene: Scene) -> Damage:
    """SIGSTOP of a Node process that serves."""
    node = scene.node(scene.dice.choice(["quick", "slow", "stream", "record", "updated"]))
    return await _hang(node)


async def hang_pod_host(scene: Scene) -> Damage:
    """SIGSTOP of the pod host."""
    return await _hang(scene.service("pod-host"))


async def hang_controller(scene: Scene) -> Damage:
    """SIGSTOP of a controller."""
    return await _hang(scene.service(scene.dice.choice(scene.engine.controllers())))


async def lose_controller(scene: Scene) -> Damage:
    """SIGSTOP of a controller for longer than its lease: the other one adopts its pods, and it comes back as
    one that does not know so. Costs nothing, but some functions move home."""
    damage = await _hang(scene.service(scene.dice.choice(scene.engine.controllers())), LONG_HANG)
    return Damage(damage.since, changes=("stored",), moves=True)


async def hang_api(scene: Scene) -> Damage:
    """SIGSTOP of the api service."""
    return await _hang(scene.service("api"))


async def hang_worker(scene: Scene) -> Damage:
    """SIGSTOP of a router worker."""
    return await _hang(scene.dice.choice(scene.workers()))


async def hang_router(scene: Scene) -> Damage:
    """SIGSTOP of the router's supervisor."""
    return await _hang(scene.service("router"))


async def _hang(process: psutil.Process | None, seconds: float = HANG) -> Damage:
    if process is not None:
        process.suspend()
        try:
            await asyncio.sleep(seconds)
        finally:
            if process.is_running():
                process.resume()
    return Damage(time.monotonic(), keeps=True)


# -- what belongs to every day


async def update(scene: Scene) -> Damage:
    """New versions of functions that are being called."""
    await asyncio.gather(*(scene.changes.update(name) for name in ("quick", "slow", "stream")))
    for _ in range(3):
        await asyncio.gather(*(scene.changes.update(name) for name in ("record", "updated")))
    return Damage(time.monotonic())


async def delete_and_create(scene: Scene) -> Damage:
    """A function that is being called is deleted, and made again."""
    for _ in range(2):
        await scene.changes.delete("phoenix")
        await asyncio.sleep(scene.dice.uniform(0, 0.3))
        await scene.changes.create("phoenix", WARM["phoenix"])
        await asyncio.sleep(0.1)
    return Damage(time.monotonic())


async def silence(scene: Scene) -> Damage:
    """No requests until all functions are recycled, then all of them at once."""
    scene.load.hold()
    try:
        await asyncio.sleep(IDLE)
    finally:
        scene.load.go_on()
    return Damage(time.monotonic())


async def scale(scene: Scene) -> Damage:
    """A burst beyond what one pod takes, so that pods come, and go again."""
    await scene.load.burst("wave", 40)
    return Damage(time.monotonic())


async def renew_router(scene: Scene) -> Damage:
    """SIGHUP: all workers are replaced."""
    former = {one.pid for one in scene.workers()}
    scene.service("router").send_signal(signal.SIGHUP)
    await _until(lambda: not former & {one.pid for one in scene.workers()}, BACK)
    return Damage(time.monotonic(), keeps=True)


async def fill_disk(scene: Scene) -> Damage:
    """No file of the store, of the logs and of the engine itself may grow (RLIMIT_FSIZE)."""
    hit = [scene.service("api"), psutil.Process(scene.engine.process.pid)]
    before = [one.rlimit(resource.RLIMIT_FSIZE) for one in hit]
    try:
        for one, (_, hard) in zip(hit, before, strict=True):
            one.rlimit(resource.RLIMIT_FSIZE, (0, hard))
        await asyncio.sleep(DISK)
    finally:
        for one, limits in zip(hit, before, strict=True):
            one.rlimit(resource.RLIMIT_FSIZE, limits)
    return Damage(time.monotonic(), changes=("507 store_full",), keeps=True)


_API_AWAY = ("ConnectError", "ReadError", "RemoteProtocolError", "WriteError", "stored")

FAULTS: dict[str, Fault] = {
    "update": update,
    "delete and create": delete_and_create,
    "silence": silence,
    "scale": scale,
    "SIGHUP router": renew_router,
    "full disk": fill_disk,
    "kill node": kill_node,
    "kill node with children": kill_family,
    "kill node of the pool": kill_generic,
    "kill pod host": kill_pod_host,
    "kill controller": kill_controller,
    "kill every controller": kill_every_controller,
    "kill api": kill_api,
    "kill router worker": kill_worker,
    "kill router": kill_router,
    "hang node": hang_node,
    "hang pod host": hang_pod_host,
    "hang controller": hang_controller,
    "lose controller": lose_controller,
    "hang api": hang_api,
    "hang router worker": hang_worker,
    "hang router": hang_router,
}

NEED_TWO_CONTROLLERS = ("kill every controller", "lose controller")
