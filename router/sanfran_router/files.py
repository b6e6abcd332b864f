"""A process's open files: each client's connection is one, each to a pod another."""

from __future__ import annotations

import os
import resource
import sys

SPARE = 200
"""Files beside connections: libraries, sockets to controllers."""
SHARE = 0.75
"""Of the others, for clients; the rest is for pods. Most clients are idle at any moment."""


def hold_standard_streams() -> None:
    """Opens /dev/null for each standard stream that is closed, as `>&-` does: a socket that took its
    number would get what is written to it, and not reach the workers."""
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(null, True)
        if null == 2:
            sys.stderr = os.fdopen(null, "w")
    os.close(null)


def allow_many_files() -> None:
    """Raises the soft limit to the hard one, for this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard and hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def affordable(connections: int) -> int:
    """How many of so many clients may be there at once: beyond it, sockets would fail."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return connections
    return min(connections, max(int((limit - SPARE) * SHARE), 1))


def shortage(connections: int) -> str:
    """What to do about a limit that is too low for so many clients; nothing when it is not."""
    fitting = affordable(connections)
    if fitting == connections:
        return ""
    needed = int(connections / SHARE) + SPARE + 1
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"only {limit} files may be open, so a worker takes {fitting} connections and not "
        f"{connections} (--max-connections): allow {needed} (ulimit -n {needed}, or "
        f"LimitNOFILE={needed} of systemd), or set --max-connections {fitting}"
    )
