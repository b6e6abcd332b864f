"""Gives up what a build does not need, then becomes the build. Run as a script, by its path.

`python -I confine.py PARENT LIMIT [--write PATH ...] [--read PATH ...] -- COMMAND ...`

After it the process dies with its parent, and first of all when the machine has no memory left; has no capability, and can get none; makes no file larger than
LIMIT bytes; and, where the kernel has Landlock (Linux 5.13), reads nothing but the system's own files and the
paths named, and writes nothing but those named for it. Nothing here is imported by the service, and it imports
nothing of the service: it starts in 20 ms.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from contextlib import suppress

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
LAST_CAPABILITY = 63
"""More than there are; what does not exist is refused without harm."""

SYS_CREATE_RULESET, SYS_ADD_RULE, SYS_RESTRICT_SELF = 444, 445, 446
CREATE_RULESET_VERSION, RULE_PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
KNOWN = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
"""Rights of a path in each version of Landlock, all of them: linux/landlock.h. From 5 on: 16."""
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""What a rule about something that is no folder may name."""

SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix"),
    *("/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/ld.so.cache", "/etc/ld.so.conf"),
    *(
        "/etc/ld.so.conf.d",
        "/etc/resolv.conf",
        "/etc/hosts",
        "/etc/host.conf",
        "/etc/nsswitch.conf",
    ),
    *("/etc/gai.conf", "/etc/services", "/etc/protocols", "/etc/passwd", "/etc/group"),
    *("/etc/localtime", "/run/systemd/resolve", "/run/resolvconf"),
    *("/proc", "/sys/fs/cgroup", "/sys/devices/system/cpu", "/dev/urandom", "/dev/random"),
)
"""What Node, TLS and the resolver read. Of /proc Landlock itself hides what other processes keep to
themselves, such as their environment."""


def main(arguments: list[str]) -> None:
    """Reads the command line, confines, and becomes the command."""
    at = arguments.index("--")
    command = arguments[at + 1 :]
    parent, limit = int(arguments[0]), int(arguments[1])
    paths: dict[str, list[str]] = {"--write": ["/dev/null"], "--read": list(SYSTEM)}
    kind = ""
    for argument in arguments[2:at]:
        if argument in paths:
            kind = argument
        else:
            paths[kind].append(argument)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if sys.platform == "linux":
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("800")  # when memory is short, a build goes before the service
        _die_with(parent)
        _restrict(paths["--read"], paths["--write"])
    os.execv(command[0], command)


def _die_with(parent: int) -> None:
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before it could be noticed
        os.kill(os.getpid(), signal.SIGKILL)
    for capability in range(LAST_CAPABILITY + 1):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _restrict(read: list[str], write: list[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(SYS_CREATE_RULESET, None, ctypes.c_size_t(0), CREATE_RULESET_VERSION)
    if version < 1:
        return  # not in this kernel, or not switched on
    every = KNOWN.get(version, (1 << 16) - 1)
    attributes = ctypes.create_string_buffer(struct.pack("Q", every), 8)
    ruleset = libc.syscall(SYS_CREATE_RULESET, attributes, ctypes.c_size_t(8), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    for paths, rights in ((read, EXECUTE | READ_FILE | READ_DIR), (write, every)):
        for path in paths:
            try:
                at = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            here = rights & every
            if not os.path.isdir(path):
                here &= OF_FILES
            rule = ctypes.create_string_buffer(struct.pack("=Qi", here, at), 12)
            if libc.syscall(SYS_ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0):
                raise OSError(ctypes.get_errno(), f"landlock_add_rule: {path}")
            os.close(at)
    if libc.syscall(SYS_RESTRICT_SELF, ruleset, 0):
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    os.close(ruleset)


if __name__ == "__main__":
    main(sys.argv[1:])
