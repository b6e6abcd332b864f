"""A function's settings as people write them: `K=V`, env files, numbers.

Ranges are the api service's to judge; this only turns text into the JSON that it takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, TypedDict, TypeVar, cast

from sanfran_cli.errors import Refused

V = TypeVar("V")


class Settings(TypedDict, total=False):
    """What a function's author may set. What is absent keeps its value or gets the default."""

    env: dict[str, str]
    timeout: float
    """Seconds, one request from head to last byte."""
    concurrency: int
    """Requests that one pod runs at once."""
    min_scale: int
    """Pods that stay active without traffic."""
    max_scale: int
    """Pods at most; 0: only the engine's own limit."""
    idle_timeout: float
    """Seconds without traffic until a pod is recycled; 0: the engine's own."""
    memory: int
    """Megabytes of a pod's process and those it starts."""
    secrets: dict[str, str | None] | list[str]
    """More of the environment: values to set, None for one to remove. In answers their names."""
    labels: dict[str, str]
    """To find functions by."""
    body_limit: int
    """Bytes of a request's body; 0: the router's own limit."""
    invoke: Literal["public", "private"]
    """Who may call it: anybody, or those who have the privilege to."""


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_SINGLE_QUOTED = re.compile(r"'([^']*)'\s*(?:#.*)?")
_COMMENT = re.compile(r"\s#.*")
_ESCAPE = re.compile(r'\\([nrt"\\])')
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def parse_variable(text: str) -> tuple[str, str]:
    """Takes `K=V` apart; the value is everything after the first `=`, as it stands.

    Raises:
        ValueError: it is not of that form; says what would work.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not K=V; try {text.strip() or 'NAME'}=value")
    check_variable(name)
    return name, value


def check_variable(name: str) -> None:
    """Refuses what cannot be the name of a variable.

    Raises:
        ValueError: says what would work.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no variable name; letters, digits and _ work, as in API_KEY")


def parse_label(text: str) -> tuple[str, str | None]:
    """Takes `K=V` apart; `K-` is a label to remove, with None.

    Raises:
        ValueError: it is of neither form; says what would work.
    """
    key, equals, value = text.partition("=")
    if equals:
        return key, value
    if text.endswith("-"):
        return text[:-1], None
    raise ValueError(
        f"{text!r} is not K=V; try {text.strip() or 'team'}=value, or {text}- to remove"
    )


_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?b)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of a text such as `10m`; k, m, g and t are powers of 1024.

    Raises:
        ValueError: it is no size; says what would work.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no size; bytes such as 65536 work, and 64k, 10m or 1g")
    return int(float(found[1]) * 1024 ** " kmgt".index(found[2].lower() or " "))


def parse_env_file(text: str) -> dict[str, str]:
    """Reads a file of variables: one `K=V` per line.

    Blank lines and lines that begin with `#` count for nothing, as does `export ` before a name.
    A bare value ends at ` #` or at the line's end. In 'single quotes' all stands as it is; in
    "double quotes" `\\n`, `\\r`, `\\t`, `\\"` and `\\\\` are escapes, and any other backslash is
    itself. No value spans lines, and nothing is substituted.

    Raises:
        ValueError: names the line and what would work.
    """
    found: dict[str, str] = {}
    # Not splitlines: that takes a form feed and U+2028 for the end of a line.
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            name, value = parse_variable(re.sub(r"^export\s+", "", line))
            found[name] = _unquote(value)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return found


def _unquote(raw: str) -> str:
    value = raw.strip()
    if value.startswith('"'):
        if quoted := _DOUBLE_QUOTED.fullmatch(value):
            return _ESCAPE.sub(lambda one: _ESCAPES.get(one[1], one[1]), quoted[1])
    elif value.startswith("'"):
        if quoted := _SINGLE_QUOTED.fullmatch(value):
            return quoted[1]
    else:
        return _COMMENT.sub("", raw).strip()
    raise ValueError(f"{value!r} has no end to its quotes, or something after it")


def merged(settings: Settings, former: Mapping[str, Mapping[str, str]]) -> Settings:
    """The settings with what they add to maps beside what is there.

    Args:
        settings: as `gather` gave them; labels that are None are removed.
        former: the maps that they add to, by their names.
    """
    result: dict[str, object] = {**settings}
    for field in result.keys() & {"labels", *former}:
        added = cast("dict[str, str | None]", result[field])
        together = {**former.get(field, {}), **added}
        result[field] = {key: value for key, value in together.items() if value is not None}
    return cast("Settings", result)


def read_env_file(path: Path) -> dict[str, str]:
    """Reads such a file from disk.

    Raises:
        Refused: it cannot be read, or a line is wrong.
    """
    try:
        return parse_env_file(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"--env-file {path}: {error}") from None


def _each(option: str, parse: Callable[[str], tuple[str, V]], given: Iterable[str]) -> dict[str, V]:
    try:
        return dict(map(parse, given))
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def gather(
    *,
    env: Iterable[str],
    env_file: Path | None,
    label: Iterable[str],
    others: Mapping[str, float | int | str | None],
) -> Settings:
    """Puts the settings' options together; what was not given stays absent.

    Args:
        env: `K=V` each; wins over the file.
        env_file: a file of variables.
        label: `K=V` each. Those to remove are in the result with None.
        others: the other settings by their names, None when not given.

    Raises:
        Refused: the env file is wrong.
        ValueError: a variable or a label is wrong; names the option.
    """
    settings: Settings = {}
    variables = read_env_file(env_file) if env_file else {}
    variables.update(_each("--env", parse_variable, env))
    if variables or env_file:
        settings["env"] = variables
    if labels := _each("--label", parse_label, label):
        settings["labels"] = cast("dict[str, str]", labels)
    given = {name: value for name, value in others.items() if value is not None}
    settings.update(given)  # type: ignore[typeddict-item]  # the names are the options' own
    return settings
