"""How many files a process may have open: each connection is one, a proxied request two."""

from __future__ import annotations

import resource

SPARE = 200
"""Files beside connections: libraries, sockets to controllers, idle connections to pods."""


def allow_many_files() -> None:
    """Raises the soft limit to the hard one, for this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard and hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def shortage(connections: int) -> str:
    """What to do about a limit that is too low for so many clients; nothing when it is not."""
    needed = 2 * connections + SPARE
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= needed:
        return ""
    fitting = max((limit - SPARE) // 2, 1)
    return (
        f"only {limit} files may be open, too few for --max-connections {connections}: "
        f"allow {needed} (ulimit -n {needed}, or LimitNOFILE={needed} of systemd), "
        f"or set --max-connections {fitting}"
    )
