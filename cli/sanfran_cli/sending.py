"""Code on its way to the service, for who watches: bars on a terminal, and what a build writes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TypedDict

import click

from sanfran_cli.pack import Upload, fingerprint, folder_bytes, open_upload

PROGRESS_FROM_BYTES = 4 * 1024 * 1024
"""Less is sent before a bar could be read."""


class Sending(TypedDict):
    """How code is sent: keywords of `Client.create` and `Client.update`."""

    sent: Callable[[int], object]
    said: Callable[[str], object]
    build: bool
    source: str


@contextmanager
def open_code(path: Path, *, build: bool = True) -> Iterator[tuple[Upload, Sending]]:
    """Opens what is to be sent; shows bars on a terminal when it is large, and what a build writes.

    Args:
        path: a file or a folder.
        build: the service installs its dependencies.

    Raises:
        Refused: it cannot be read.
    """
    with ExitStack() as stack:
        source = fingerprint(path, build=build)
        with progress("Packing", folder_bytes(path) if path.is_dir() else 0) as packed:
            upload = stack.enter_context(open_upload(path, packed))
        with progress("Sending", upload.size) as sent:
            said = _Build(after_bar=_has_bar(upload.size))
            yield upload, {"sent": sent, "said": said, "build": build, "source": source}


class _Build:
    """Prints what a build writes, below a bar that is full by then; not npm's errors, which the refusal has."""

    def __init__(self, *, after_bar: bool) -> None:
        self._after_bar = after_bar

    def __call__(self, line: str) -> None:
        if line.startswith("npm error"):
            return
        if self._after_bar:
            self._after_bar = False
            click.echo(err=True)
        click.secho(f"  {line}", dim=True, err=True)


def _has_bar(size: int) -> bool:
    return size >= PROGRESS_FROM_BYTES and sys.stderr.isatty()


def progress(label: str, size: int) -> AbstractContextManager[Callable[[int], object]]:
    """Shows a bar of so many bytes on a terminal when they are many; gives what to tell of each part."""
    return _shown_bar(label, size) if _has_bar(size) else nullcontext(lambda _: None)


@contextmanager
def _shown_bar(label: str, size: int) -> Iterator[Callable[[int], object]]:
    with click.progressbar(length=size, label=label, file=sys.stderr) as bar:
        yield bar.update
