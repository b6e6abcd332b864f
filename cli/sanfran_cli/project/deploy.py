"""Has a service match a project, one function after another, and says what became of each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, cast

from sanfran_cli.client import AlreadyExists, Client, Function, NotFound, VersionChanged
from sanfran_cli.errors import ApiRefused, ApiUnreachable, Refused
from sanfran_cli.pack import Upload, fingerprint
from sanfran_cli.project.differences import Differences, differences
from sanfran_cli.project.file import Project, Wanted
from sanfran_cli.sending import Sending
from sanfran_cli.settings import Settings

ATTEMPTS = 5
"""At a function that others change at the same time."""
NOT_TRIED = "not tried: the service answers no more"

Open = Callable[..., AbstractContextManager[tuple[Upload, Sending]]]
"""Opens code to be sent: see `sending.open_code`."""


class Action(Enum):
    """What became of a function."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one function.

    Args:
        changes: what is different now, for people.
        version: the one that it has now, or would have; 0: none.
        error: why it failed.
    """

    name: str
    action: Action
    changes: list[str] = field(default_factory=list)
    version: int = 0
    url: str = ""
    error: str = ""


class Deployment:
    """One run.

    Args:
        open_code: opens what has to be sent.
        dry_run: change nothing, and tell what would become of each.
        told: given each outcome as it comes.
    """

    def __init__(
        self,
        client: Client,
        project: Project,
        open_code: Open,
        *,
        dry_run: bool,
        told: Callable[[Outcome], object],
    ) -> None:
        self._client = client
        self._project = project
        self._open = open_code
        self._dry_run = dry_run
        self._told = told
        self._defaults: dict[str, Any] = {}

    async def run(self, *, prune: bool) -> list[Outcome]:
        """Deploys every function; one that fails keeps none of the others back.

        Args:
            prune: remove every function of the service that the file does not name; not when one failed.

        Raises:
            ApiUnreachable: nothing answers.
        """
        self._defaults = dict((await self._client.info()).get("defaults", {}))
        outcomes: list[Outcome] = []
        lost = ""
        for wanted in self._project.functions:
            outcome = Outcome(wanted.name, Action.FAILED, error=NOT_TRIED)
            if not lost:
                try:
                    outcome = await self._guarded(wanted)
                except ApiUnreachable as error:
                    lost = str(error)
                    outcome = Outcome(wanted.name, Action.FAILED, error=lost)
            outcomes.append(outcome)
            self._told(outcome)
        if prune and not any(one.action is Action.FAILED for one in outcomes):
            named = {wanted.name for wanted in self._project.functions}
            others = [one["name"] async for one in self._client.list() if one["name"] not in named]
            for name in others:
                outcomes.append(await self._remove(name))
                self._told(outcomes[-1])
        return outcomes

    async def _guarded(self, wanted: Wanted) -> Outcome:
        try:
            return await self._deploy(wanted)
        except ApiUnreachable:
            raise
        except Refused as error:
            at = ""
            if isinstance(error, ApiRefused):
                line = wanted.lines.get(error.field.removeprefix("settings.").partition(".")[0])
                at = f"{self._project.file}:{line}: " if line else ""
            return Outcome(wanted.name, Action.FAILED, error=f"{at}{error}")

    async def _deploy(self, wanted: Wanted) -> Outcome:
        for _ in range(ATTEMPTS):
            now: Function | None = None
            try:
                now = await self._client.get(wanted.name)
            except NotFound:
                pass  # to be made
            try:
                return await (self._update(wanted, now) if now else self._create(wanted))
            except (AlreadyExists, NotFound, VersionChanged):
                continue  # somebody was quicker: look again
        raise Refused(f"{wanted.name} is being changed by others all the time; try again")

    async def _create(self, wanted: Wanted) -> Outcome:
        if self._dry_run:
            made = await self._client.create(
                wanted.name,
                wanted.path,
                wanted.settings,
                build=wanted.build,
                source=fingerprint(wanted.path, build=wanted.build),
                dry_run=True,
            )
        else:
            with self._open(wanted.path, build=wanted.build) as (upload, sending):
                made = await self._client.create(wanted.name, upload, wanted.settings, **sending)
        return Outcome(wanted.name, Action.CREATED, [], made["version"], made.get("url", ""))

    async def _update(self, wanted: Wanted, now: Function) -> Outcome:
        if hidden := now.get("hidden"):
            raise Refused(
                f"{' and '.join(hidden)} of {wanted.name} are not shown to you; to compare them, "
                "`deploy` needs the privilege settings:view"
            )
        found = differences(now["settings"], wanted.settings, self._defaults)
        source = fingerprint(wanted.path, build=wanted.build)
        is_new_code = now.get("source") != source
        changes = [*(["code"] if is_new_code else []), *found.words]
        if not changes and not found.checked_by_service:
            return Outcome(wanted.name, Action.UNCHANGED, [], now["version"])
        made = await self._send(wanted, now, found, source if is_new_code else None)
        if made["version"] == now["version"]:
            return Outcome(wanted.name, Action.UNCHANGED, [], now["version"])
        return Outcome(
            wanted.name,
            Action.UPDATED,
            changes or ["secrets"],
            made["version"],
            made.get("url", ""),
        )

    async def _send(
        self, wanted: Wanted, now: Function, found: Differences, source: str | None
    ) -> Function:
        """Changes it; `source` is that of the code, None when that stays."""
        settings = cast("Settings", found.settings) if found.settings else None
        version = now["version"]
        if source is None or self._dry_run:
            return await self._client.update(
                wanted.name,
                wanted.path if source is not None else None,
                settings,
                of_version=version,
                unless_same=True,
                build=wanted.build,
                source=source or "",
                dry_run=self._dry_run,
            )
        with self._open(wanted.path, build=wanted.build) as (upload, sending):
            return await self._client.update(
                wanted.name, upload, settings, of_version=version, **sending
            )

    async def _remove(self, name: str) -> Outcome:
        if not self._dry_run:
            try:
                await self._client.delete(name)
            except NotFound:
                pass  # someone else was quicker
            except ApiUnreachable:
                raise
            except Refused as error:
                return Outcome(name, Action.FAILED, error=str(error))
        return Outcome(name, Action.REMOVED)
