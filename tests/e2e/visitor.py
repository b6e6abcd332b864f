"""A client inside the cluster: a pod with Python that sends what a test wants.

Not through `kubectl port-forward`, which leads to one pod and ends with it: what requests meet while pods are replaced
is what these tests are about.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.kubectl import LONG, Namespace

SCRIPT = Path(__file__).with_name("visitor_script.py")
LOAD_SECONDS = 240.0
"""A load ends by itself after that, whatever became of its test."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got. Status 0: nothing, and the body says why."""

    status: int
    body: str
    seconds: float
    headers: dict[str, str]

    @property
    def ok(self) -> str:
        """The body of an answer with status 200."""
        assert self.status == 200, f"{self.status}: {self.body}"
        return self.body


class Load:
    """Requests that are being sent.

    Args:
        process: that sends.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.answers = 0
        self.failures: list[str] = []
        self.failed = 0
        self.slowest = ""
        """The slowest answer: how long it took, and of what."""

    def floor(self, function: str, number: int) -> None:
        """From now on an answer of that function with a lower number is wrong."""
        self._order({f"/fn/{function}": number})

    def _order(self, order: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def read(self) -> Any:
        """The next message of the process."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            raise AssertionError(f"the load ended early: {self._process.stderr.read()}")
        return json.loads(line)

    def stop(self) -> None:
        """Sends no more, and takes the account."""
        self._order("stop")
        account = self.read()
        self.answers, self.failed = account["answers"], account["failed"]
        self.failures = account["failures"]
        self.slowest = f"{account['slowest'] * 1000:.0f} ms ({account['slowest_was']})"

    def assert_flawless(self, at_least: int = 50) -> None:
        """Nothing failed, and there were that many answers."""
        shown = "\n".join(self.failures)
        assert not self.failed, f"{self.failed} of {self.answers} requests failed:\n{shown}"
        assert self.answers >= at_least


class Visitor:
    """The pod.

    Args:
        namespace: where it is.
        image: one with Python.
        pull_policy: of that image.
        address: host:port of the router, seen from inside the cluster.
    """

    name = "visitor"

    def __init__(self, namespace: Namespace, image: str, pull_policy: str, address: str) -> None:
        self._namespace = namespace
        self._image = image
        self._pull_policy = pull_policy
        self.address = address

    def start(self) -> None:
        """Makes the pod and waits until it runs."""
        about = {"name": self.name}
        script = {"visitor.py": SCRIPT.read_text()}
        restricted = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        container = {
            "name": "visitor",
            "image": self._image,
            "imagePullPolicy": self._pull_policy,
            "command": ["python3", "/script/visitor.py", "sleep"],
            "securityContext": restricted,
            "volumeMounts": [{"name": "script", "mountPath": "/script"}],
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        }
        spec = {
            "containers": [container],
            "volumes": [{"name": "script", "configMap": {"name": self.name}}],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65534,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }
        self._namespace.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": script},
            {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec},
        )
        self._namespace.kubectl(
            *("wait", "--for", "condition=Ready", f"pod/{self.name}", f"--timeout={LONG:.0f}s"),
            timeout=LONG + 10,
        )

    def _command(self, what: str) -> list[str]:
        script = ["python3", "/script/visitor.py", what]
        return self._namespace.command("exec", "--stdin", self.name, "--", *script)

    def calls(
        self,
        *requests: tuple[str, str] | tuple[str, str, str],
        at_once: bool = False,
        pause: float = 0.0,
        address: str = "",
    ) -> list[Answer]:
        """Sends requests and returns the answers.

        Args:
            requests: method, path and, where there is one, body of each.
            at_once: each on a connection of its own; else one after the other on one.
            pause: seconds after each.
            address: of another router.
        """
        listed = [[*request, None][:3] for request in requests]
        asked = {"address": address or self.address, "requests": listed}
        done = subprocess.run(
            self._command("calls"),
            input=json.dumps({**asked, "at_once": at_once, "pause": pause}) + "\n",
            capture_output=True,
            text=True,
            timeout=LONG,
        )
        assert done.returncode == 0, done.stderr
        return [Answer(**one) for one in json.loads(done.stdout)]

    def get(self, function: str, query: str = "", address: str = "") -> Answer:
        """One GET of a function."""
        [answer] = self.calls(("GET", f"/fn/{function}{query}"), address=address)
        return answer

    @contextlib.contextmanager
    def load(
        self, *functions: str, methods: Sequence[str] = ("GET", "POST"), pause: float = 0.03
    ) -> Iterator[Load]:
        """Calls functions while the block runs, over kept and over new connections; answers are numbers.

        Args:
            functions: their names.
            methods: GET, POST.
            pause: seconds of each client after an answer.
        """
        callers = [
            {"method": method, "path": f"/fn/{name}", "kept": kept, "pause": pause}
            for name in functions
            for method in methods
            for kept in (True, False)
        ]
        asked = {"address": self.address, "callers": callers, "seconds": LOAD_SECONDS}
        process = subprocess.Popen(
            self._command("load"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            load = Load(process)
            load.read()
            yield load
            load.stop()
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
