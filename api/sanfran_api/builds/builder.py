"""Builds: so many at a time, two that are the same as one, and none that was made before."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Self

from sanfran_common.lifecycle import TaskOwner
from sanfran_common.telemetry.logs import get_logger

from sanfran_api.builds.cache import BuildCache
from sanfran_api.builds.npm import Npm, Say
from sanfran_api.builds.plan import NPMRC, Plan
from sanfran_api.bundles.folder import read_folder
from sanfran_api.bundles.layout import Layout, Limits
from sanfran_api.bundles.tar import write_tar
from sanfran_api.disk import refusing_full_disk
from sanfran_api.errors import ApiError, BuildFailed, Busy
from sanfran_api.metrics import BUILD_SECONDS, BUILDS
from sanfran_api.threads import Check, in_thread

log = get_logger("builds")

MODULES = "node_modules"
NPMS_OWN = ".package-lock.json"
"""npm's note of what it has installed; nothing of a function."""
Write = Callable[[Path, Check], None]
"""Writes the whole upload into a folder."""


class Builder(TaskOwner):
    """Makes `node_modules` while its `async with` lasts.

    Args:
        npm: None: there is none.
        cache: of this service alone.
        limits: of what is installed.
        at_once: builds that run.
        waiting: builds that wait for one of these to end.
    """

    def __init__(
        self, npm: Npm | None, cache: BuildCache, limits: Limits, *, at_once: int, waiting: int
    ) -> None:
        super().__init__("builds")
        self._npm = npm
        self._cache = cache
        self._limits = limits
        self._most = at_once + waiting
        self._places = asyncio.Semaphore(at_once)
        self._builds: dict[str, _Build] = {}

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._cache.open)
        return await super().__aenter__()

    async def modules(self, plan: Plan, whole: bytes, write: Write, say: Say) -> IO[bytes]:
        """A tar with the `node_modules` that a plan asks for.

        Cancelled, it leaves the build to others who wait for the same one; the last who leaves ends it.

        Args:
            whole: digest of the upload, where the plan needs all of it.
            write: puts it into a folder; used only then.
            say: told what npm writes, line by line.

        Returns:
            An open file, which the caller closes.

        Raises:
            BuildFailed, RegistryFailed, TooLarge, StoreFull: as their names say.
            Busy: too many builds wait.
        """
        if self._npm is None:
            raise BuildFailed(
                "package.json has dependencies, and this service has no npm; upload the folder "
                "with its node_modules"
            )
        key = plan.key(await self._npm.facts(), whole)
        for note in plan.notes:
            say(note)
        if plan.lock and (found := await asyncio.to_thread(self._cache.find, key)) is not None:
            BUILDS.labels("cached").inc()
            say(f"{MODULES}: as built before for the same {plan.lock}")
            return found
        # One that reads the upload cannot go on without who has sent it.
        shared = key if not plan.whole else f"{key} {secrets.token_hex(8)}"
        build = self._builds.get(shared)
        if build is None:
            if len(self._builds) >= self._most:
                raise Busy(f"{len(self._builds)} builds run or wait; try again in a moment")
            build = self._builds[shared] = _Build()
            work = self._run(shared, key, plan, write, build)
            build.task = self._tasks.spawn(work, name=f"build {key[:12]}")
        return await self._join(shared, build, say)

    async def _join(self, shared: str, build: _Build, say: Say) -> IO[bytes]:
        for line in build.lines:
            say(line)
        done: asyncio.Future[IO[bytes]] = asyncio.get_running_loop().create_future()
        build.waiting[done] = say
        try:
            return await done
        except asyncio.CancelledError:
            if done.done() and not done.cancelled() and done.exception() is None:
                done.result().close()
            raise
        finally:
            build.waiting.pop(done, None)
            if not build.waiting and build.task is not None and not build.task.done():
                self._forget(shared, build)
                build.task.cancel()
                await asyncio.wait({build.task})

    def _forget(self, shared: str, build: _Build) -> None:
        """Nobody joins it any more."""
        if self._builds.get(shared) is build:
            del self._builds[shared]

    async def _run(self, shared: str, key: str, plan: Plan, write: Write, build: _Build) -> None:
        folder: Path | None = None
        try:
            if self._places.locked():
                build.say("waiting for other builds")
            async with self._places:
                started = time.perf_counter()
                with refusing_full_disk():
                    folder = await asyncio.to_thread(self._cache.new_build)
                    packed = await self._build(folder, key, plan, write, build.say)
                BUILD_SECONDS.observe(time.perf_counter() - started)
            BUILDS.labels("built").inc()
            self._forget(shared, build)
            try:
                build.finish(packed)
            finally:
                self._cache.keep(key, packed) if plan.lock else packed.unlink()
        except asyncio.CancelledError:
            BUILDS.labels("cancelled").inc()
            build.fail(Busy("the service stops; try again in a moment"))
            raise
        except ApiError as error:
            BUILDS.labels("failed").inc()
            build.fail(error)
        except Exception as error:
            # A mistake of ours, or a disk that fails, costs this build and no other.
            log.exception("build failed")
            build.fail(error)
        finally:
            self._forget(shared, build)
            if folder is not None:
                await in_thread(partial(self._clean, folder))

    async def _build(self, folder: Path, key: str, plan: Plan, write: Write, say: Say) -> Path:
        assert self._npm is not None
        work, home = folder / "work", folder / "home"
        downloads = self._cache.downloads
        if plan.files[NPMRC]:
            # What its own credentials opened, or its own registry sent, is for no other build.
            downloads = folder / "npm"
            downloads.mkdir(mode=0o700)
        await in_thread(partial(_prepare, work, home, plan, write))
        await self._npm.install(work, home, downloads, bool(plan.lock), say)
        return await in_thread(partial(self._pack, work, key))

    def _pack(self, work: Path, key: str, check_wanted: Check) -> Path:
        """Packs every `node_modules` of a folder, without what lies elsewhere in it."""
        layout = Layout(self._limits)
        read_folder(work, layout, _is_installed)
        layout.check_links()
        path = self._cache.partial(key)
        try:
            with path.open("xb") as file:
                write_tar(layout.members(), file.write, check_wanted)
                file.flush()
                # Or a machine that goes down could leave an entry that is hollow.
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _clean(self, folder: Path, _: Check) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._cache.make_room(busy=bool(self._builds))


class _Build:
    """One build, and who waits for it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.lines: list[str] = []
        """What it has said so far; bounded by what npm may write."""
        self.waiting: dict[asyncio.Future[IO[bytes]], Say] = {}

    def say(self, line: str) -> None:
        self.lines.append(line)
        for say in self.waiting.values():
            say(line)

    def finish(self, path: Path) -> None:
        """Gives each a file of its own, so that no one reads where another one stands."""
        for done in self.waiting:
            if not done.done():
                done.set_result(path.open("rb"))

    def fail(self, error: Exception) -> None:
        for done in self.waiting:
            if not done.done():
                done.set_exception(error)


def _prepare(work: Path, home: Path, plan: Plan, write: Write, check_wanted: Check) -> None:
    work.mkdir(mode=0o700)
    home.mkdir(mode=0o700)
    if plan.whole:
        write(work, check_wanted)
    for name, content in plan.files.items():
        (work / name).write_bytes(content)


def _is_installed(path: str) -> bool:
    """Whether a path is of what npm has installed."""
    return MODULES in (parts := path.split("/")) and parts[-1] != NPMS_OWN
