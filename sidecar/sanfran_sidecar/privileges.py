"""What processes that root starts may not do all the same."""

from __future__ import annotations

import ctypes
import os
import sys

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1
"""Writing to what is read-only: a bundle, which other activations run too."""
CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON = 19, 21, 38
"""Reading the memory and environment of processes that hide them, as the engine's own do. Since Linux 6.14
each of the three is enough for the environment, which holds the secret of the run."""


def bind_children() -> None:
    """Takes these capabilities from all that this thread starts from now on; not from itself.

    Only root has them. In a container that may not drop them, nothing happens. Linux only.
    """
    if sys.platform == "linux" and os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in (CAP_DAC_OVERRIDE, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
