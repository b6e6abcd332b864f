"""This controller's Lease: taken, renewed, and given up at the stop. See `book` for those of all."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

from sanfran_controller.providers import NameHeld, ProviderError
from sanfran_controller.providers.kubernetes.api import ApiError, KubeApi, Object, moment
from sanfran_controller.providers.kubernetes.book import ADDRESS, DURATION
from sanfran_controller.providers.kubernetes.calls import LEASES

HOST = "sanfran.dev/host"
"""Annotation: the host name of the holder."""
RENEW_LEAST = 1.5
"""Seconds between writes, so that of renewals that come each second every other one is written: with 10 seconds
of `DURATION` four may fail in a row."""
RENEW_PATIENCE = 2.5
"""Seconds for a renewal. A connection that is dead without a word would otherwise outlast the Lease; the next
renewal opens another."""


class OwnLease:
    """The Lease of one process.

    Args:
        api: of the namespace.
        name: of the controller.
        process: the holder's identity.
        metadata: labels and `ownerReferences` of the object.
    """

    def __init__(self, api: KubeApi, name: str, process: str, metadata: Object) -> None:
        self._api = api
        self._name = name
        self._process = process
        self._metadata = metadata
        self._held: Object | None = None
        self._address = ""
        self._renewed = 0.0
        self._seen: tuple[str, float] = ("", 0.0)  # another holder's version, and when it was new

    async def renew(self, address: str) -> None:
        """See `PodProvider.renew`."""
        try:
            async with asyncio.timeout(RENEW_PATIENCE):
                await self._renew(address)
        except TimeoutError as error:
            raise ProviderError(f"no answer in {RENEW_PATIENCE:g} s") from error

    async def _renew(self, address: str) -> None:
        now = time.monotonic()
        if self._held is None:
            self._held = await self._take(address, now)
        elif address != self._address or now - self._renewed >= RENEW_LEAST:
            self._held = await self._write(self._held, address)
        else:
            return
        self._address, self._renewed = address, now

    async def give_up(self) -> None:
        """The controller stops: others need not wait for the end of the Lease."""
        if self._held is not None:
            meta = self._held["metadata"]
            only_if = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
            self._held = None
            await self._api.delete(LEASES, self._name, only_if=only_if)

    async def _take(self, address: str, now: float) -> Object:
        try:
            lease = await self._api.get(LEASES, self._name)
        except ApiError as error:
            if error.status != 404:
                raise
            fresh: Object = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, **self._metadata},
                "spec": {"leaseTransitions": 0, "acquireTime": moment(time.time())},
            }
            return await self._api.create(LEASES, self._filled(fresh, address))
        if not self._may_take(lease, now):
            holder = lease["spec"]["holderIdentity"]
            raise NameHeld(f"another process is named {self._name}: {holder}")
        spec = lease.setdefault("spec", {})
        spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        spec["acquireTime"] = moment(time.time())
        return await self._write(lease, address)

    def _may_take(self, lease: Object, now: float) -> bool:
        meta, spec = lease["metadata"], lease.get("spec") or {}
        if spec.get("holderIdentity", self._process) in ("", self._process):
            return True
        # In a pod that bears the controller's name, a former process of that name is a container that ended.
        host = (meta.get("annotations") or {}).get(HOST)
        if host == self._name == socket.gethostname():
            return True
        version = meta["resourceVersion"]
        if self._seen[0] != version:
            self._seen = (version, now)
        return now - self._seen[1] >= float(spec.get("leaseDurationSeconds") or DURATION)

    async def _write(self, lease: Object, address: str) -> Object:
        try:
            return await self._api.update(LEASES, self._name, self._filled(lease, address))
        except ApiError as error:
            if error.status != 409 and error.status != 404:
                raise
            if self._held is None:
                raise NameHeld(f"another process took the name {self._name} meanwhile") from error
        return await self._again(address)

    async def _again(self, address: str) -> Object:
        """What is held was changed or deleted by somebody else."""
        try:
            lease = await self._api.get(LEASES, self._name)
        except ApiError as error:
            if error.status != 404:
                raise
            # Deleted by hand. Nobody took it, and its next holder will be seen.
            self._held = None
            raise ProviderError(f"the Lease {self._name} is gone; it is made anew") from error
        holder = (lease.get("spec") or {}).get("holderIdentity")
        if holder and holder != self._process:  # without one somebody has emptied it by hand
            raise NameHeld(f"another process is named {self._name}: {holder}")
        return await self._api.update(LEASES, self._name, self._filled(lease, address))

    def _filled(self, lease: Object, address: str) -> Object:
        notes = {ADDRESS: address, HOST: socket.gethostname()}
        spec: dict[str, Any] = {
            **(lease.get("spec") or {}),
            "holderIdentity": self._process,
            "leaseDurationSeconds": round(DURATION),
            "renewTime": moment(time.time()),
        }
        meta = lease["metadata"]
        meta = {**meta, "annotations": {**(meta.get("annotations") or {}), **notes}}
        return {**lease, "metadata": meta, "spec": spec}
