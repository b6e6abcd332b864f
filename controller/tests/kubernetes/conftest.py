"""What these tests share: a controller on a cluster in memory, and the API server alone."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import kmock
import pytest
from kubernetes_asyncio.client import ApiClient, Configuration
from sanfran_controller.providers.kubernetes import connect
from sanfran_controller.providers.kubernetes.api import KubeApi
from sanfran_proto.sanfran import v1 as pb

from controller.tests.cluster import (
    TEMPLATE,
    ApiServer,
    Kubelet,
    Object,
    kubeconfig,
)
from controller.tests.conftest import Client, World
from controller.tests.simulated import SimHost

CLIENT = connect.ApiClient  # imported here: on a busy machine that takes longer than a test may


class KubeWorld(World):
    """A cluster, an api service, and controllers on demand."""

    def __init__(self, folder: Path, server: ApiServer, kubelet: Kubelet) -> None:
        super().__init__(folder)
        self.server, self.kubelet = server, kubelet
        self.objects = server.objects
        self.host = kubelet.host
        (folder / "pod.yaml").write_text(TEMPLATE)

    @asynccontextmanager
    async def kube(self, name: str = "controller", **settings: Any) -> AsyncIterator[Client]:
        """A controller on the cluster."""
        fixed = {
            "provider": "kubernetes",
            "namespace": "functions",
            "pod_template": str(self.folder / "pod.yaml"),
            "name": name,
            "rpc_listen": f"unix:{self.folder}/{name}",
        }
        async with self.controller(**{**fixed, **settings}) as client:
            yield client

    @property
    def pods(self) -> dict[str, Object]:
        """As the API server has them."""
        return self.objects.of.get("pods", {})

    def labels(self, key: str) -> list[str]:
        """Of all pods, sorted."""
        return sorted(
            pod["metadata"]["labels"].get(f"sanfran.dev/{key}", "") for pod in self.pods.values()
        )

    def asked(self, what: str) -> list[str]:
        """Writes that begin so, in the mock's record."""
        return [one for one in self.server.writes() if one.startswith(what)]

    def serving_pod(self, name: str) -> str:
        """The only one that serves a function."""
        (pod,) = self.host.serving(name)
        return pod.name

    async def until(self, true: Any) -> Any:
        """Something changed in the API server."""
        return await self.objects.changes.until(true)

    async def full(self, pods: int = 2) -> None:
        """So many run."""
        await self.until(
            lambda: sum("podIP" in p.get("status", {}) for p in self.pods.values()) >= pods
        )


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubeWorld]:
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    async with ApiServer() as server, kmock.Server(server) as at:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(folder, str(at.url))))
        async with Kubelet(server.objects, SimHost(folder)) as kubelet:
            made = KubeWorld(folder, server, kubelet)
            await made.api.start()
            yield made
            await made.api.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as made:
        yield made


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[KubeApi]:
    async with kmock.Server(server) as at:
        async with ApiClient(Configuration(host=str(at.url).rstrip("/"))) as client:
            yield KubeApi(client, "functions")


async def pool(client: Client) -> pb.PoolStatus:
    """What `sanfran pool` shows."""
    return await client.stub.get_pool(pb.GetPoolRequest(decisions=50))


async def decided(client: Client, words: str) -> None:
    """Until a decision of the pool says these words."""
    async with asyncio.timeout(8):
        while not any(words in one.why for one in (await pool(client)).decisions):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def without_pods(client: Client, name: str) -> None:
    """Until routers are told that nobody serves the function."""
    await client.until(lambda: name in client.routes and not client.routes[name].endpoints)
