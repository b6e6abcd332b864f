"""What a function in `sanfran.yaml` may have. docs/deploy.md has this as its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

FILE_NAME = "sanfran.yaml"


class Kind(Enum):
    """What a value looks like, in words for errors."""

    PATH = "a path below the file's folder works, such as ./shop"
    PATHS = "a path, or a list of them, works, such as shop.env"
    BOOLEAN = "true and false work"
    NUMBER = "a number works, such as 30"
    WHOLE = "a whole number works, such as 10"
    SIZE = "bytes work, such as 65536, 64k, 10m or 1g"
    WORD = "a word works, such as private"
    TEXTS = "names with texts work, such as GREETING: Hello"
    VALUES = "names with texts or files work, such as API_KEY: ${API_KEY} or {file: key.txt}"


@dataclass(frozen=True, slots=True)
class Field:
    """One field: what it may be, and what it means."""

    kind: Kind
    text: str


CODE: Mapping[str, Field] = {
    "path": Field(Kind.PATH, "the code: a file, a folder or an archive. Required"),
    "build": Field(
        Kind.BOOLEAN,
        "`false`: take the folder as it is, and install nothing that its `package.json` names",
    ),
}
SETTINGS: Mapping[str, Field] = {
    "env": Field(Kind.VALUES, "variables of its environment"),
    "env_file": Field(Kind.PATHS, "files of variables, one `K=V` a line; `env` wins over them"),
    "secrets": Field(Kind.VALUES, "more of the environment, kept encrypted and never shown"),
    "timeout": Field(Kind.NUMBER, "seconds for one request"),
    "concurrency": Field(Kind.WHOLE, "requests that one process runs at once"),
    "min_scale": Field(Kind.WHOLE, "processes that stay active without traffic"),
    "max_scale": Field(Kind.WHOLE, "processes at most; 0: only the engine's own limit"),
    "idle_timeout": Field(
        Kind.NUMBER, "seconds without traffic until a process is recycled; 0: the engine's own"
    ),
    "memory": Field(Kind.WHOLE, "megabytes of a process"),
    "body_limit": Field(Kind.SIZE, "bytes of a request's body, `10m` too; 0: the router's own"),
    "labels": Field(Kind.TEXTS, "to find functions by"),
    "invoke": Field(Kind.WORD, "`public`, or `private`: only who has the privilege to"),
}
FIELDS: Mapping[str, Field] = {**CODE, **SETTINGS}
