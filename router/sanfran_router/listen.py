"""The router's listening sockets: made once, by the supervisor, and lent to its workers.

The supervisor keeps them open all its life, so what the kernel has queued for a worker that dies or
is replaced waits for the next one.
"""

from __future__ import annotations

import errno
import socket
import time

from sanfran_common.config import split_host_port

BACKLOG = 2048
"""Connections that wait to be accepted; a burst of clients must not meet a refusal."""
FORMER_SECONDS = 1.0
"""For workers whose supervisor was killed to let go of the port; they do at once."""
_PAUSE = 0.05


class CannotListen(Exception):
    """The address cannot be had. The text names the setting and what would work."""


def listen(address: str, places: int) -> list[list[socket.socket]]:
    """Listens for each worker's place.

    Several places share the port by SO_REUSEPORT: the kernel spreads connections over them.

    Args:
        address: HOST:PORT; a name is listened on at all its addresses.
        places: how many.

    Returns:
        The sockets of each place.

    Raises:
        CannotListen: it is in use, or none of this machine's.
    """
    host, port = split_host_port(address)
    opened: list[list[socket.socket]] = [[] for _ in range(places)]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, where in dict.fromkeys(found):
            try:
                _listen_at(family, (where[0], port, *where[2:]), opened)
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL or len(found) == 1:
                    raise
                continue  # such as ::1 of localhost, on a machine without IPv6
            port = opened[0][0].getsockname()[1]  # with port 0, the same one for all
    except (OSError, UnicodeError) as error:
        _close(opened)
        raise CannotListen(f"--listen {address}: {_why(error)}") from error
    if not opened[0]:
        raise CannotListen(f"--listen {address}: no address of this machine; try 0.0.0.0:{port}")
    return opened


def _listen_at(
    family: socket.AddressFamily | int,
    where: tuple[str | int, ...],
    opened: list[list[socket.socket]],
) -> None:
    """Listens at one address for each place.

    The first socket does not share, so that a second router on the port is refused.
    """
    first = _bound_alone(family, where)
    if len(opened) == 1:
        opened[0].append(first)
        first.listen(BACKLOG)
        return
    where = first.getsockname()
    first.close()
    for sockets in opened:
        one = _socket(family)
        sockets.append(one)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(where)
    for sockets in opened:
        sockets[-1].listen(BACKLOG)


def _bound_alone(family: int, where: tuple[str | int, ...]) -> socket.socket:
    give_up = time.monotonic() + FORMER_SECONDS
    while True:
        one = _socket(family)
        try:
            one.bind(where)
            return one
        except OSError as error:
            one.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > give_up:
                raise
        time.sleep(_PAUSE)


def _socket(family: int) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return one


def _close(opened: list[list[socket.socket]]) -> None:
    for sockets in opened:
        for one in sockets:
            one.close()


def _why(error: OSError | UnicodeError) -> str:
    match error:
        case OSError(errno=errno.EADDRINUSE):
            return "something listens there already; try another port, or 0 for any free one"
        case OSError(errno=errno.EACCES):
            return "only root may listen there; try port 8080"
        case OSError(errno=errno.EADDRNOTAVAIL):
            return "no address of this machine; try 127.0.0.1 or 0.0.0.0"
    return f"{getattr(error, 'strerror', None) or error}; try 127.0.0.1:8080"
