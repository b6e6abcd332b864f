"""Settings of a service: one frozen dataclass, parsed once from flags and environment.

A field made with `setting` is the flag `--max-head-bytes` and the variable
`SANFRAN_ROUTER_MAX_HEAD_BYTES`; the flag wins. An error names the setting, the bad value and one
that works, and ends the process with exit code 2.

Built on argparse and not on pydantic-settings: a sidecar runs beside every pod, and pydantic alone
would add about as much memory to it as all else that it imports (docs/decisions/0002).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

C = TypeVar("C")
T = TypeVar("T")

SHARED_PREFIX = "SANFRAN"


def text(value: str) -> str:
    """Any text, as it stands."""
    return value


def visible(value: str) -> str:
    """Text that may travel in a header: visible ASCII characters, or nothing."""
    if not all("!" <= character <= "~" for character in value):
        raise ValueError("has characters other than visible ASCII; try openssl rand -hex 16")
    return value


def non_negative_int(value: str) -> int:
    """A whole number from 0."""
    if not value.isascii() or not value.isdigit():
        raise ValueError("is not a whole number from 0; try 10")
    return int(value)


def positive_int(value: str) -> int:
    """A whole number from 1."""
    if not value.isascii() or not value.isdigit() or int(value) == 0:
        raise ValueError("is not a whole number from 1; try 10")
    return int(value)


def seconds(value: str) -> float:
    """A duration in seconds, 0 or more, with fractions."""
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise ValueError("is not a number of seconds from 0; try 2.5")
    return number


def port(value: str) -> int:
    """A TCP port; 0 picks a free one."""
    if not value.isascii() or not value.isdigit() or int(value) > 65535:
        raise ValueError("is not a port from 0 to 65535; try 8080")
    return int(value)


def host_port(value: str) -> str:
    """`HOST:PORT` to listen on, the host in brackets when it is IPv6."""
    split_host_port(value)
    return value


def split_host_port(value: str) -> tuple[str, int]:
    """Takes `HOST:PORT` (or `[IPv6]:PORT`) apart.

    Raises:
        ValueError: it is not of that form; says what would work.
    """
    host, colon, number = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not colon or not host:
        raise ValueError("is not HOST:PORT; try 127.0.0.1:8080 or [::1]:8080")
    return host, port(number)


def join_host_port(host: str, number: int) -> str:
    """The opposite of `split_host_port`."""
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"


def folder(value: str) -> Path:
    """A folder, which need not exist yet."""
    if not value:
        raise ValueError("is empty; try ./data")
    path = Path(value).expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise ValueError("is not a folder; try ./data")
    return path


def tls_folder(value: str) -> str:
    """A folder with certificates, or none. What is in its files shows when they are used."""
    if not value:
        return value
    path = Path(value).expanduser().absolute()
    if not path.is_dir():
        raise ValueError("is not a folder; try one with ca.crt, tls.crt and tls.key")
    for name in ("ca.crt", "tls.crt", "tls.key"):
        if not os.access(path / name, os.R_OK):
            there = (path / name).exists()
            raise ValueError(
                f"has {'no readable' if there else 'no'} {name}; all of ca.crt, tls.crt and "
                "tls.key have to be there, as in a Secret of type kubernetes.io/tls"
            )
    return str(path)


def boolean(value: str) -> bool:
    """An environment variable's yes or no."""
    known = {"1": True, "true": True, "yes": True, "on": True}
    known |= {"0": False, "false": False, "no": False, "off": False}
    try:
        return known[value.lower()]
    except KeyError:
        raise ValueError("is neither true nor false; try true") from None


def one_of(*choices: str) -> Callable[[str], str]:
    """One of a few words."""

    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"is none of {', '.join(choices)}; try {choices[0]}")
        return value

    return parse


def setting(
    default: T, *, help: str, parse: Callable[[str], T] | None = None, shared: bool = False
) -> T:
    """Declares a field of a config dataclass.

    Args:
        default: the value without flag and variable.
        help: one line for `--help` and the docs; says the unit.
        parse: text to value; raises ValueError("is …; try …"). Not needed for text and bool.
        shared: `SANFRAN_<NAME>` holds for every service that has no variable of its own.
    """
    if parse is None:
        parse = cast("Callable[[str], T]", boolean if isinstance(default, bool) else text)
    return field(default=default, metadata={"help": help, "parse": parse, "shared": shared})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """The settings that every service has."""

    admin: str = setting(
        "127.0.0.1:0",
        help="address of /metrics, /healthz and /readyz; port 0 picks a free one",
        parse=host_port,
    )
    log_format: str = setting(
        "console", help="json or console", parse=one_of("json", "console"), shared=True
    )
    log_level: str = setting(
        "info",
        help="debug, info, warning or error",
        parse=one_of("debug", "info", "warning", "error"),
        shared=True,
    )
    rpc_secret: str = setting(
        "",
        help="shared by all services; gRPC calls without it are refused",
        parse=visible,
        shared=True,
    )
    tls_dir: str = setting(
        "",
        help="folder with ca.crt, tls.crt and tls.key: gRPC over TCP with mutual TLS (docs/tls.md)",
        parse=tls_folder,
        shared=True,
    )
    exit_with_stdin: bool = setting(
        False, help="stop when the standard input ends, so as not to outlive the parent"
    )


def parse_config(
    config: type[C],
    *,
    prefix: str,
    prog: str,
    description: str,
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> C:
    """Reads a config from flags, then environment, then defaults.

    Args:
        config: a dataclass whose fields were made with `setting`.
        prefix: of the environment variables, such as SANFRAN_ROUTER.
        argv: flags without the program's name; the process's own when None.
        environ: the process's own when None.

    Raises:
        SystemExit: with code 2 and a message on stderr for bad settings, 0 after `--help`.
    """
    environ = os.environ if environ is None else environ
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f"Each flag can be set by environment too: --admin is {prefix}_ADMIN. Flags win.",
        allow_abbrev=False,
    )
    declared = fields(cast("Any", config))
    for one in declared:
        _add_flag(parser, one)
    given = vars(parser.parse_args(argv))
    values: dict[str, object] = {}
    for one in declared:
        raw, source = given[one.name], _flag(one.name)
        if raw is None:
            raw, source = _from_environ(one, prefix, environ)
        if raw is None:
            continue
        if not isinstance(raw, str):
            values[one.name] = raw
            continue
        try:
            values[one.name] = one.metadata["parse"](raw)
        except ValueError as error:
            shown = "its value" if one.name.endswith("secret") else repr(raw)
            _refuse(prog, f"{source}: {shown} {error}")
    try:
        return config(**values)
    except ValueError as error:  # a rule between fields, checked in __post_init__
        _refuse(prog, str(error))


def _refuse(prog: str, message: str) -> NoReturn:
    print(f"{prog}: {message}", file=sys.stderr)  # noqa: T201  # before logs exist
    raise SystemExit(2)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _add_flag(parser: argparse.ArgumentParser, one: Field[Any]) -> None:
    assert one.default is not MISSING, f"{one.name}: every setting has a default"
    shown = f"{one.metadata['help']} (default: {one.default if one.default != '' else 'none'})"
    shown = shown.replace("%", "%%")
    if isinstance(one.default, bool):
        action = argparse.BooleanOptionalAction
        parser.add_argument(_flag(one.name), action=action, default=None, help=shown)
    else:
        metavar = one.name.rsplit("_", 1)[-1].upper()
        parser.add_argument(_flag(one.name), default=None, metavar=metavar, help=shown)


def _from_environ(
    one: Field[Any], prefix: str, environ: Mapping[str, str]
) -> tuple[str | None, str]:
    own = f"{prefix}_{one.name.upper()}"
    if own in environ:
        return environ[own], own
    shared = f"{SHARED_PREFIX}_{one.name.upper()}"
    if one.metadata["shared"] and shared in environ:
        return environ[shared], shared
    return None, own
