"""What can be done with functions, for REST and gRPC alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from sanfran_proto.sanfran import v1 as pb

from sanfran_api.bundles.pack import Bundle, Packer
from sanfran_api.errors import BadRequest, NotFound, check_version, name_taken
from sanfran_api.intake import Upload
from sanfran_api.labels import EVERY, Selector
from sanfran_api.names import check_name, shorten
from sanfran_api.settings import Settings, labels_of, revise, stored, to_message
from sanfran_api.store.reads import Page
from sanfran_api.store.store import Store
from sanfran_api.store.transactions import Stored
from sanfran_api.watch import Watchers

READ_AT_ONCE = 25
"""Functions parsed between two turns of the event loop; about a millisecond."""
MAX_LOOKED_AT = 5000
"""Functions parsed for one page: labels that few have cost the caller pages, and not us seconds."""

Given = Mapping[str, object]
"""Settings as a client gave them: see `settings.revise`."""
MAX_SOURCE = 200


@dataclass(frozen=True, slots=True)
class Code:
    """Code that a client sends.

    Args:
        upload: the file.
        file_name: as the client calls it; tells what it is.
        source: what the client calls this code, for its own use; shown again with the function.
        build: install the dependencies that package.json names, where `node_modules` is missing.
        say: told what the build writes, line by line.
    """

    upload: Upload
    file_name: str
    source: str = ""
    build: bool = True
    say: Callable[[str], object] = lambda _: None

    def __post_init__(self) -> None:
        if len(self.source) > MAX_SOURCE or not self.source.isprintable():
            raise BadRequest(
                f"source: {shorten(self.source)!r} is not accepted; up to {MAX_SOURCE} printable "
                "characters work, such as a digest",
                field="source",
            )


@dataclass(frozen=True, slots=True)
class Deployed:
    """A version that is stored, or would be but for a dry run.

    Args:
        applied: every connected controller has carried it out.
    """

    version: pb.FunctionVersion
    applied: bool


class Functions:
    """Creates, changes, deletes and shows functions.

    Args:
        apply_timeout: seconds that a change waits for the watchers.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        watchers: Watchers,
        packer: Packer,
        *,
        apply_timeout: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._watchers = watchers
        self._packer = packer
        self._apply_timeout = apply_timeout
        self._clock = clock

    def get(self, name: str) -> pb.FunctionVersion:
        """A function's current version.

        Raises:
            NotFound: there is no such function.
        """
        return self._store.get(name)

    def resolve(self, name: str) -> pb.FunctionVersion:
        """The same with the values of its secrets, for services."""
        return self._store.get(name, reveal=True)

    async def page(
        self,
        after: str,
        limit: int,
        selector: Selector = EVERY,
        visible: Callable[[str], bool] = lambda _: True,
    ) -> Page:
        """Functions whose names are greater than `after`, by name; at most `limit`.

        Args:
            visible: only those whose names it knows; as with a selector, pages may be short.
            selector: only those that it matches; then a page may be short, or empty, and not the last.
        """
        found: list[tuple[pb.FunctionVersion, int]] = []
        looked_at = 0
        while True:
            page = self._store.page(after, min(limit - len(found), READ_AT_ONCE))
            looked_at += len(page.functions)
            found += [
                one
                for one in page.functions
                if visible(one[0].name) and selector.matches(labels_of(one[0]))
            ]
            after = page.next_after
            if not after or len(found) >= limit or looked_at >= MAX_LOOKED_AT:
                return Page(found, after)
            await asyncio.sleep(0)

    async def create(
        self, name: str, code: Code | None, given: Given, *, by: str = "", dry_run: bool = False
    ) -> Deployed:
        """Makes a function of an upload.

        Args:
            by: who does it; empty: nobody was asked.
            dry_run: do not look into the file, store nothing, and give what would be: of the code it
                knows nothing.

        Raises:
            BadRequest, TooLarge: something about the name, the file or the settings is wrong.
            BuildFailed, RegistryFailed: its dependencies could not be installed.
            AlreadyExists: the name is taken.
            StoreFull, StoreFailed, Busy: it could not be stored.
        """
        check_name(name)
        settings = revise(Settings(), given)
        if code is None:
            raise BadRequest("file: missing; send the function's code", field="file")
        self._check_free(name)  # here too: a mistake is told before the work of packing
        version = pb.FunctionVersion(
            name=name,
            settings=to_message(settings),
            created_at_ms=self._now_ms(),
            created_by=by,
            source=code.source,
        )
        if dry_run:
            return Deployed(self._store.try_create(version), applied=False)
        bundle = await self._pack(code)
        try:
            version = replace(version, entry=bundle.entry, created_at_ms=self._now_ms())
            made = await self._store.create(version, bundle)
        finally:
            bundle.close()
        return await self._deployed(made)

    async def update(
        self,
        name: str,
        code: Code | None,
        given: Given | None,
        *,
        of_version: int | None = None,
        unless_same: bool = False,
        by: str = "",
        dry_run: bool = False,
    ) -> Deployed:
        """Makes a new version of a function.

        Args:
            by: who does it; empty: nobody was asked.
            code: None keeps what there is.
            given: settings that change; None keeps all.
            of_version: the version that this change was made for; None: any.
            unless_same: gives the current version when no settings would be different; not with code.
            dry_run: as in `create`.

        Raises:
            NotFound: there is no such function.
            VersionChanged: it is not at `of_version` (any more).
            BadRequest, TooLarge, BuildFailed, StoreFull, StoreFailed, Busy: as in `create`.
        """
        if code is None and given is None:
            self._store.get(name)  # a wrong name is told first
            raise BadRequest("nothing to change; send a file, or settings, or both")
        source = code.source if code is not None else None
        revision = self._revision(given or {}, of_version, by, source)
        if dry_run:
            entry = None if code is None else ""
            would_be = self._store.try_update(
                name,
                lambda now: revision(now, entry),
                new_code=code is not None,
                unless_same=unless_same,
            )
            return Deployed(would_be, applied=False)
        bundle = None
        if code is not None:
            revision(self._store.get(name), None)  # here too: a mistake is told before all the work
            bundle = await self._pack(code)
        try:
            made = await self._store.update(
                name,
                lambda now: revision(now, bundle.entry if bundle is not None else None),
                bundle,
                unless_same=unless_same,
            )
        finally:
            if bundle is not None:
                bundle.close()
        return await self._deployed(made)

    def versions(self, name: str) -> list[pb.FunctionVersion]:
        """The versions of a function that are kept, the newest first.

        Raises:
            NotFound: there is no such function.
        """
        return self._store.versions(name)

    async def roll_back(
        self, name: str, number: int | None, *, of_version: int | None = None, by: str = ""
    ) -> Deployed:
        """Makes a version with the code, the settings and the secrets of an older one.

        Args:
            number: of the older one; None: the one before the current.
            of_version: the version that the function must be at; None: any.
            by: who does it; empty: nobody was asked.

        Raises:
            NotFound: there is no such function or version.
            BadRequest: it is the current one.
            VersionChanged, StoreFull, StoreFailed, Busy: as in `update`.
        """

        def make(current: pb.FunctionVersion, older: pb.FunctionVersion) -> pb.FunctionVersion:
            check_version(name, current.version, of_version)
            if older.version == current.version:
                raise BadRequest(
                    f"version: {name} is at version {current.version}; give one before it",
                    field="version",
                )
            note = f"rollback to {older.version}"
            return replace(older, created_at_ms=self._now_ms(), created_by=by, note=note)

        self._store.get(name)
        return await self._deployed(await self._store.go_back(name, number, make))

    async def delete(self, name: str, *, of_version: int | None = None) -> bool:
        """Removes a function; returns whether every connected controller has carried it out.

        Raises:
            NotFound: there is no such function.
            VersionChanged: it is not at `of_version` (any more); None: any.
            StoreFull, StoreFailed, Busy: it could not be removed.
        """
        self._store.get(name)
        revision = await self._store.delete(name, of_version=of_version)
        return await self._watchers.applied(revision, self._apply_timeout)

    async def _pack(self, code: Code) -> Bundle:
        return await self._packer.pack(
            code.upload.file, code.file_name, build=code.build, say=code.say
        )

    def _check_free(self, name: str) -> None:
        with suppress(NotFound):
            self._store.get(name)
            raise name_taken(name)

    def _revision(
        self, given: Given, of_version: int | None, by: str, source: str | None
    ) -> Callable[[pb.FunctionVersion, str | None], pb.FunctionVersion]:
        def make(current: pb.FunctionVersion, entry: str | None) -> pb.FunctionVersion:
            check_version(current.name, current.version, of_version)
            settings = revise(stored(current.settings), given)
            return pb.FunctionVersion(
                name=current.name,
                entry=entry if entry is not None else current.entry,
                settings=to_message(settings),
                created_at_ms=self._now_ms(),
                created_by=by,
                source=source if source is not None else current.source,
            )

        return make

    async def applied(self, revision: int) -> bool:
        """Waits until every controller that lives has carried out what led to a revision, or for as
        long as any change waits."""
        return await self._watchers.applied(revision, self._apply_timeout)

    async def _deployed(self, made: Stored) -> Deployed:
        applied = await self._watchers.applied(made.revision, self._apply_timeout)
        return Deployed(made.version, applied)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
