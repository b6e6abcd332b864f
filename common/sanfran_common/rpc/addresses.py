"""Addresses of gRPC services: `host:port`, `unix:/path`, lists of them, `dns:host:port`."""

from __future__ import annotations

from dataclasses import dataclass

from sanfran_common.config import split_host_port

UNIX = "unix:"
DNS = "dns:"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a service may be reached: fixed addresses, or a name to resolve again and again."""

    fixed: tuple[str, ...] = ()
    dns: tuple[str, int] | None = None


def parse_target(value: str) -> Target:
    """Reads a client's setting.

    Args:
        value: a comma-separated list of `host:port` and `unix:/path`, or one `dns:host:port`.
            Empty: no address at all, every call is UNAVAILABLE.

    Raises:
        ValueError: says what would work.
    """
    if value.startswith(DNS):
        return Target(dns=split_host_port(value.removeprefix(DNS)))
    parts = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    for part in parts:
        rpc_address(part)
    return Target(fixed=parts)


def rpc_target(value: str) -> str:
    """Parser for settings that hold a target; see `parse_target`."""
    parse_target(value)
    return value


def rpc_address(value: str) -> str:
    """Parser for settings that hold one address to listen on: `host:port` or `unix:/path`."""
    if value.startswith(UNIX):
        if not value.removeprefix(UNIX).startswith("/"):
            raise ValueError("is not an absolute socket path; try unix:/run/sanfran/api.sock")
        return value
    try:
        split_host_port(value)
    except ValueError:
        raise ValueError(
            "is not HOST:PORT or unix:/path; try 127.0.0.1:9090 or unix:/run/sanfran/api.sock"
        ) from None
    return value
