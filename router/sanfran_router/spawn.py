"""A worker's process, as the supervisor starts it.

Imports little: the first workers are started before the supervisor reads the rest of its own code.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple


class Spawned(NamedTuple):
    """A process, and our end of the socket to it."""

    process: subprocess.Popen[bytes]
    control: socket.socket


def spawn_worker(number: int, sockets: Sequence[socket.socket], *, hold: bool = False) -> Spawned:
    """Starts a worker, with this process's command line and environment.

    A fresh interpreter: after an upgrade of the package it runs the new code. In our process
    group, so that whoever ends the group ends it too.

    Args:
        number: of the worker, from 1.
        sockets: to accept from; stay ours as well.
        hold: it accepts no connection until it is told.

    Raises:
        OSError: it could not be started.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        listeners = [one.fileno() for one in sockets]
        call = f"main({number}, {theirs.fileno()}, {listeners}, hold={hold})"
        command = [sys.executable, "-P", "-c", f"from sanfran_router.worker import main; {call}"]
        # Readiness is the supervisor's to tell.
        environ = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
        try:
            process = subprocess.Popen(
                [*command, *sys.argv[1:]],
                stdin=subprocess.DEVNULL,
                env=environ,
                pass_fds=(theirs.fileno(), *listeners),
            )
        except OSError:
            ours.close()
            raise
    ours.setblocking(False)
    return Spawned(process, ours)
