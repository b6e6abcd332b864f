"""The pod template: a file with one Pod, from which every function pod is made."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from sanfran_controller.providers.kubernetes.facts import (
    CONTROLLER,
    PROCESS,
    RELEASE,
    SIDECAR,
    TEMPLATE,
    TERM,
)

GRPC_PORT = 8084
"""Of the sidecar, where its container names no port `grpc`."""
PREFIX_MOST = 40
"""Characters of the release's name in pods' names: with the rest they stay below 63, a host name's limit."""
FIRST_TERM = 1


class PodTemplate:
    """What pods are made from.

    Args:
        path: of the file.

    Raises:
        ValueError: names the file, what is wrong in it, and what would work.
    """

    def __init__(self, path: Path) -> None:
        self._pod = _loaded(path)
        labels = self._pod["metadata"]["labels"]
        self.release = str(labels[RELEASE])
        """The installation: all objects of it bear this label."""
        self.prefix = f"{self.release[:PREFIX_MOST].rstrip('-.')}-pod"
        """What the pods' names begin with."""
        self.digest = hashlib.sha256(json.dumps(self._pod, sort_keys=True).encode()).hexdigest()[
            :16
        ]
        """Pods that bear another one were made from another template."""
        self.port = _port(self._pod)
        """Of the sidecars' gRPC."""

    def make(
        self, name: str, *, owner: str, process: str, references: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """A pod to create.

        Args:
            owner: the controller whose it is.
            process: the process of it.
            references: `ownerReferences`.
        """
        pod = copy.deepcopy(self._pod)
        meta = pod["metadata"]
        meta["name"] = name
        meta["labels"][CONTROLLER] = owner
        meta.setdefault("annotations", {}).update(
            {TERM: str(FIRST_TERM), PROCESS: process, TEMPLATE: self.digest}
        )
        if references:
            meta["ownerReferences"] = references
        return pod


def _loaded(path: Path) -> dict[str, Any]:
    try:
        pod = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ValueError(
            f"--pod-template: {path} cannot be read: {error.strerror or error}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"--pod-template: {path} is no YAML: {error}") from None
    problem = _problem(pod)
    if problem:
        raise ValueError(f"--pod-template: {path}: {problem}")
    pod.update(apiVersion="v1", kind="Pod")
    return dict(pod)


def _problem(pod: Any) -> str:
    if not isinstance(pod, dict) or pod.get("kind", "Pod") != "Pod":
        return "is no Pod; it has to begin with kind: Pod"
    meta, spec = pod.get("metadata"), pod.get("spec")
    if not isinstance(meta, dict) or not isinstance(meta.get("labels"), dict):
        return f"metadata.labels: is missing; try {RELEASE}: my-release"
    release = meta["labels"].get(RELEASE)
    if not isinstance(release, str) or not release:
        return f"metadata.labels: has no {RELEASE}; try {RELEASE}: my-release"
    if "name" in meta or "generateName" in meta:
        return "metadata: has a name; the controller gives each pod its own"
    if not isinstance(spec, dict) or not isinstance(spec.get("containers"), list):
        return "spec.containers: is missing"
    if SIDECAR not in [one.get("name") for one in spec["containers"] if isinstance(one, dict)]:
        return f"spec.containers: has no container named {SIDECAR}"
    return ""


def _port(pod: dict[str, Any]) -> int:
    for container in pod["spec"]["containers"]:
        if container["name"] == SIDECAR:
            for port in container.get("ports") or []:
                if port.get("name") == "grpc":
                    return int(port["containerPort"])
    return GRPC_PORT
