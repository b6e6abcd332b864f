"""Opens the way to the cluster, and everything of the provider on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from kubernetes_asyncio import config as client_config
from kubernetes_asyncio.client import ApiClient, Configuration
from sanfran_common.telemetry.logs import get_logger

from sanfran_controller.config import ControllerConfig
from sanfran_controller.providers.kubernetes.api import ApiError, KubeApi, Object
from sanfran_controller.providers.kubernetes.calls import LEASES
from sanfran_controller.providers.kubernetes.provider import KubernetesPods
from sanfran_controller.providers.kubernetes.template import PodTemplate

log = get_logger("kubernetes")

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
CONNECTIONS = 64
"""To the API server at most; each carries one call at a time."""
OWNER_AGAIN = 1.0
LEASE = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}


@asynccontextmanager
async def open_pods(
    config: ControllerConfig, process: str
) -> AsyncGenerator[tuple[KubernetesPods, str]]:
    """The provider, and what its pods' names begin with.

    Raises:
        ValueError: a setting is of no use; says which, and what would be.
        ConfigException: there is no cluster to be found.
    """
    template = PodTemplate(Path(config.pod_template))
    settings = Configuration()
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        load_in_cluster: Callable[..., None] = client_config.load_incluster_config
        load_in_cluster(client_configuration=settings)
    else:
        file = os.environ.get("KUBECONFIG")  # which the client would read when it is imported
        await client_config.load_kube_config(config_file=file, client_configuration=settings)
    settings.connection_pool_maxsize = CONNECTIONS
    # From Python 3.13 on OpenSSL's strict mode wants extensions in the cluster's CA that Go's clients do without,
    # and that CAs made with openssl lack. The chain and the name are verified all the same.
    settings.disable_strict_ssl_verification = True
    async with ApiClient(settings) as client:
        api = KubeApi(client, config.namespace or _own_namespace())
        owner = await _owner(api, config.pod_owner) if config.pod_owner else None
        about = owner or {**LEASE, "name": config.name}
        async with KubernetesPods(
            api,
            template,
            owner=config.name,
            process=process,
            # Drains of nodes pass over pods that have no controller.
            references=[{**owner, "controller": True}] if owner else [],
            about=about,
        ) as pods:
            yield pods, template.prefix


def _own_namespace() -> str:
    try:
        return OWN_NAMESPACE.read_text().strip()
    except OSError:
        return "default"


async def _owner(api: KubeApi, name: str) -> Object:
    """The Lease that owns what is made, as an `ownerReference`.

    Raises:
        ValueError: there is none.
    """
    while True:
        try:
            uid = (await api.get(LEASES, name))["metadata"]["uid"]
            return {**LEASE, "name": name, "uid": uid}
        except ApiError as error:
            if error.status in (403, 404):
                raise ValueError(
                    f"--pod-owner: there is no Lease {name} in namespace {api.namespace} for this "
                    f"controller ({error}); try the one that the chart makes, RELEASE-functions"
                ) from error
            log.warning("the API server does not answer, trying again", why=str(error))
        await asyncio.sleep(OWNER_AGAIN)
