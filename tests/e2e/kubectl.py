"""A namespace of a real cluster, by way of kubectl."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Object = dict[str, Any]
"""Of Kubernetes, as its JSON."""

T = TypeVar("T")

LONG = 300.0
"""Seconds for anything that starts pods, on a machine that does much else."""


class Refused(Exception):
    """kubectl or helm ended with an error; the message is theirs."""


def run(*command: str, stdin: str | None = None, timeout: float = 60.0) -> str:
    """Runs a command and returns its output.

    Raises:
        Refused: it ended with an error.
        subprocess.TimeoutExpired: it took longer than `timeout` seconds.
    """
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise Refused(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Namespace:
    """A namespace and what is in it.

    Args:
        name: of the namespace.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, *args: str) -> list[str]:
        """A kubectl command in this namespace."""
        return ["kubectl", "--namespace", self.name, *args]

    def kubectl(self, *args: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Runs kubectl in this namespace; see `run`."""
        return run(*self.command(*args), stdin=stdin, timeout=timeout)

    def apply(self, *objects: Object) -> None:
        """Creates or changes objects."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--filename", "-", stdin=json.dumps(listed))

    def create(self) -> None:
        """Makes the namespace, one in which Pod Security `restricted` is enforced."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        about = {"name": self.name, "labels": labels}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": about})

    def delete(self) -> None:
        """Deletes the namespace with all that is in it, and waits for its end."""
        run("kubectl", "delete", "namespace", self.name, "--ignore-not-found", timeout=LONG)

    def get(self, kind: str, selector: str = "") -> list[Object]:
        """Objects of a kind that carry labels."""
        args = ["--selector", selector] if selector else []
        items: list[Object] = json.loads(self.kubectl("get", kind, *args, "--output", "json"))[
            "items"
        ]
        return items

    def pods(self, selector: str) -> list[Object]:
        """Pods that carry labels and are not being deleted."""
        found = self.get("pods", selector)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def everything(self) -> set[str]:
        """kind/name of all that is in the namespace, but for Events."""
        kinds = run(
            *("kubectl", "api-resources", "--namespaced", "--verbs", "list", "--output", "name")
        ).split()
        wanted = [kind for kind in kinds if not re.match(r"events\b|.*\.metrics\.k8s\.io$", kind)]
        return set(self.kubectl("get", ",".join(wanted), "--output", "name").split())

    @contextlib.contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[int]:
        """A port of this machine that leads to one of a Service or a pod, while the block runs.

        Args:
            target: such as service/name.
            port: of the target.
        """
        command = self.command("port-forward", target, f":{port}")
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
            if found is None:
                process.kill()
                raise Refused(f"{' '.join(command)}: {process.stderr.read()}")
            yield int(found[1])
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()
            process.stderr.close()


def names(objects: Sequence[Object]) -> set[str]:
    """Their names."""
    return {one["metadata"]["name"] for one in objects}


def until(happened: Callable[[], T], what: str, seconds: float = 60.0) -> T:
    """Waits for it, and returns what it was.

    Raises:
        TimeoutError: it did not happen in time.
    """
    given_up = time.monotonic() + seconds
    while not (found := happened()):
        if time.monotonic() > given_up:
            raise TimeoutError(f"did not happen in {seconds:g} s: {what}")
        time.sleep(0.2)
    return found
