"""`sanfran-router`: HTTP in, HTTP out.

This process is the supervisor: it holds the listening sockets and the admin port, and starts the
workers, which serve.
"""

from __future__ import annotations

import signal
import sys

from sanfran_router.config import read_config
from sanfran_router.files import allow_many_files, hold_standard_streams
from sanfran_router.listen import CannotListen, listen
from sanfran_router.spawn import spawn_worker


def main() -> None:
    """The command."""
    # Until the supervisor minds it, a request to replace the workers must not end anything.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    hold_standard_streams()
    config = read_config()
    allow_many_files()
    try:
        places = listen(config.listen, config.workers)
    except CannotListen as error:
        print(f"sanfran-router: {error}", file=sys.stderr)  # noqa: T201  # before logs exist
        raise SystemExit(1) from error
    started = [
        (sockets, spawn_worker(number, sockets)) for number, sockets in enumerate(places, start=1)
    ]
    # Only now: the workers start while this process reads the rest of its code.
    from sanfran_router.supervisor import supervise

    supervise(config, started)


if __name__ == "__main__":
    main()
