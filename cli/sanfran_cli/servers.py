"""Servers by name, with what logs in there, in a file that only its user can read.

`$XDG_CONFIG_HOME/sanfran/servers.json` (`~/.config/sanfran/servers.json`), mode 0600 in a folder of mode
0700. It is replaced as a whole, under a lock, so that two logins at once keep both.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sanfran_cli.client.credentials import Credentials, Login, Server, Token
from sanfran_cli.client.urls import DEFAULT_API, is_url
from sanfran_cli.errors import Refused

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Servers:
    """Those that were logged in to.

    Args:
        current: the name of the one that counts when none is named; empty: none.
    """

    by_name: Mapping[str, Server]
    current: str = ""

    def with_server(self, name: str, server: Server) -> Servers:
        """These and one more, which is the current one."""
        return Servers({**self.by_name, name: server}, name)

    def without(self, name: str) -> Servers:
        """These but one."""
        left = {key: one for key, one in self.by_name.items() if key != name}
        return Servers(left, self.current if self.current != name else "")

    def using(self, name: str) -> Servers:
        """These, with another current one."""
        return replace(self, current=name)


def find_server(wanted: str | None, environ: Mapping[str, str] = os.environ) -> Server:
    """The server that a command is for.

    Args:
        wanted: a name or a URL; None: the current one, or the one on this machine.

    Raises:
        ValueError: there is none of that name; says what would work.
        Refused: the file cannot be read.
    """
    servers = read_servers(environ)
    if wanted is None:
        found = servers.by_name.get(servers.current) or Server(DEFAULT_API)
    elif wanted in servers.by_name:
        found = servers.by_name[wanted]
    elif is_url(wanted):
        url = wanted.rstrip("/")
        found = next((one for one in servers.by_name.values() if one.url == url), Server(url))
    else:
        known = ", ".join([*servers.by_name, DEFAULT_API])
        raise ValueError(f"{wanted!r} is no URL and no server that you logged in to; try {known}")
    if token := environ.get("SANFRAN_TOKEN"):
        found = replace(found, credentials=Token(token))
    return found


def servers_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where they are kept."""
    home = environ.get("XDG_CONFIG_HOME", "")
    # A relative path counts for nothing, by the XDG base directory specification.
    folder = Path(home) if os.path.isabs(home) else Path.home() / ".config"
    return folder / "sanfran" / "servers.json"


def read_servers(environ: Mapping[str, str] = os.environ) -> Servers:
    """All of them.

    Raises:
        Refused: the file is wrong, or others can read it.
    """
    path = servers_file(environ)
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read()
    except FileNotFoundError:
        return Servers({})
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    if mode & 0o077:
        raise Refused(f"{path} has passwords, and mode {mode:04o} lets others at it; chmod 600 it")
    try:
        document = json.loads(content)
        by_name = {str(name): _server(one) for name, one in document["servers"].items()}
        return Servers(by_name, str(document.get("current") or ""))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(
            f"{path} is not what `sanfran login` writes; remove it, log in again"
        ) from error


@contextmanager
def changing_servers(environ: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Keeps other commands from changing them meanwhile: read and write within.

    Raises:
        Refused: the folder cannot be made.
    """
    path = servers_file(environ)
    try:
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(path.parent / "servers.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refused(f"{path.parent}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(lock)


def write_servers(path: Path, servers: Servers) -> None:
    """Replaces the file.

    Raises:
        Refused: it cannot be written; the former one is there.
    """
    document = {
        "current": servers.current,
        "servers": {name: _document(one) for name, one in servers.by_name.items()},
    }
    try:
        os.chmod(path.parent, 0o700)
        handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=".servers-")  # of mode 0600
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(document, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, path)
        except BaseException:
            os.unlink(fresh)
            raise
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}; nothing was changed") from error


def _server(document: Mapping[str, Any]) -> Server:
    credentials: Credentials | None = None
    if "token" in document:
        credentials = Token(str(document["token"]))
    elif "user" in document:
        credentials = Login(str(document["user"]), str(document["password"]))
    return Server(str(document["url"]), credentials)


def _document(server: Server) -> dict[str, str]:
    match server.credentials:
        case Login(user, password):
            return {"url": server.url, "user": user, "password": password}
        case Token(text):
            return {"url": server.url, "token": text}
    return {"url": server.url}
