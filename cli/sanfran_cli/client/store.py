"""Calls about the store as a whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, cast

import httpx

from sanfran_cli.client.answers import Restored, Rotated
from sanfran_cli.client.connection import ANSWER_SECONDS, CONNECT_SECONDS, Connection
from sanfran_cli.errors import Refused

END = b"SANFRAN\0"
"""Before the SHA-256 of everything before it, at the end of a backup."""
PIECE_BYTES = 256 * 1024


class StoreCalls(Connection):
    """What the service keeps."""

    async def rotate_secrets(self) -> Rotated:
        """Has the service read its file of keys again and encrypt every secret with the first one."""
        return cast("Rotated", await self._json("POST", "secrets/rotate"))

    async def backup(self, file: Path) -> int:
        """Writes everything that the service keeps to a file, which is there only when it is whole.

        Args:
            file: is replaced.

        Returns:
            Its bytes.

        Raises:
            Refused: the file cannot be written, or what came is not whole.
        """
        file = file.resolve()  # what a link leads to is replaced, not the link
        if file.exists() and not file.is_file():
            raise Refused(f"{file} is no file, such as a device; name one, or a path that is free")
        part = file.with_name(file.name + ".part")
        try:
            with part.open("xb") as out:
                part.chmod(0o600)
                size = 0
                async with self._answer("GET", "backup") as answer:
                    async for piece in answer.aiter_bytes():
                        out.write(piece)
                        size += len(piece)
                out.flush()
                os.fsync(
                    out.fileno()
                )  # whoever is told that it is there may switch off the machine
            check_backup(part)
            part.rename(file)
        except FileExistsError:
            raise Refused(
                f"{part} is there: another backup writes it, or left it; remove it where none runs"
            ) from None
        except OSError as error:
            part.unlink(missing_ok=True)
            raise Refused(f"{file}: {error.strerror}") from error
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return size

    async def restore(
        self, file: Path, *, sent: Callable[[int], object] = lambda _: None
    ) -> Restored:
        """Puts what a backup has in the place of all that the service keeps.

        Args:
            sent: told the bytes of each part as it is sent.

        Raises:
            Refused: the file is not whole.
        """
        check_backup(file)
        with file.open("rb") as content:
            answer = await self._json(
                "POST",
                "restore",
                content=_pieces(content, sent),
                headers={
                    "content-type": "application/octet-stream",
                    # So that one too large, or without room there, is refused before it is sent.
                    "content-length": str(file.stat().st_size),
                },
                # The service looks at all of it before it answers.
                timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, read=None),
            )
        return cast("Restored", answer)


async def _pieces(file: IO[bytes], sent: Callable[[int], object]) -> AsyncIterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece
        sent(len(piece))


def check_backup(file: Path) -> None:
    """Reads a backup once.

    Raises:
        Refused: it was cut off, or altered, or is none.
    """
    length = file.stat().st_size - len(END) - 32
    found = hashlib.sha256()
    with file.open("rb") as content:
        while length > 0 and (piece := content.read(min(PIECE_BYTES, length))):
            found.update(piece)
            length -= len(piece)
        end = content.read()
    if length or not end.startswith(END):
        raise Refused(f"{file} is no backup, or was cut off")
    if end != END + found.digest():
        raise Refused(f"{file} was altered: its SHA-256 is not the one at its end")
