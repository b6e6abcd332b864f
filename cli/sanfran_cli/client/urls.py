"""Addresses of api services."""

from __future__ import annotations

import ipaddress
from urllib.parse import quote, urlsplit

from sanfran_cli.errors import Refused

DEFAULT_API = "http://127.0.0.1:8081"


def is_local(url: str) -> bool:
    """Whether the URL is on this machine, where no proxy of the environment belongs between."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_url(text: str) -> bool:
    """Whether this can be an API server: http or https, and a host; the port is a port."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def function_path(name: str) -> str:
    """A function's resource, relative to the API's root.

    Raises:
        Refused: of another one, such as that of `..` or `shop/versions`.
    """
    if not name or name in (".", "..") or "/" in name:
        raise Refused(f"name: {name!r} is no function name; a-z, 0-9 and - inside work")
    return f"functions/{quote(name, safe='')}"
