"""Events of Kubernetes about what the controller cannot do, for `kubectl describe` and `kubectl get events`.

The same reason again is the same Event, counted: a thousand refused creates are one object and a few patches.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass

from sanfran_common.lifecycle import TaskOwner
from sanfran_common.telemetry.logs import get_logger

from sanfran_controller.providers.kubernetes.api import ApiError, KubeApi, Object, moment
from sanfran_controller.providers.kubernetes.calls import EVENTS

log = get_logger("kubernetes")

TELL_EVERY = 10.0
"""Seconds between two writes of one Event."""
SERIES = 3600.0
"""Seconds after which a reason that comes back is a new Event: the API server keeps them for an hour."""
COMPONENT = "sanfran-controller"


@dataclass(slots=True)
class _Told:
    name: str
    message: str
    first: float
    last: float
    count: int
    written: int = 0


class Events(TaskOwner):
    """Writes them while its `async with` lasts.

    Args:
        api: of the namespace.
        about: the object that they are about, as an `ObjectReference`.
        labels: that they bear.
        instance: who reports.
    """

    def __init__(self, api: KubeApi, about: Object, labels: dict[str, str], instance: str) -> None:
        super().__init__("events")
        self._api = api
        self._about = about
        self._labels = labels
        self._instance = instance
        self._told: dict[str, _Told] = {}
        self._writing: set[str] = set()

    def warn(self, reason: str, message: str) -> None:
        """Something cannot be done.

        Args:
            reason: a word in CamelCase, of a few.
            message: for people.
        """
        now = time.time()
        told = self._told.get(reason)
        if told is None or now - told.last > SERIES:
            name = f"{self._about['name']}.{secrets.token_hex(8)}"
            told = self._told[reason] = _Told(name, message, now, now, 0)
        told.message, told.last, told.count = message, now, told.count + 1
        if reason not in self._writing:
            self._writing.add(reason)
            self._tasks.spawn(self._write(reason), name=f"tell {reason}")

    async def _write(self, reason: str) -> None:
        while (told := self._told[reason]).written < told.count:
            count = told.count
            try:
                if told.written:
                    change = {
                        "count": count,
                        "lastTimestamp": _second(told.last),
                        "message": told.message,
                    }
                    await self._api.patch(EVENTS, told.name, change)
                else:
                    await self._api.create(EVENTS, self._event(reason, told))
                told.written = count
            except ApiError as error:
                # It says what went wrong, and is not worth to be in the way of it.
                log.debug("event not written", reason=reason, why=str(error))
                if error.status == 404:
                    del self._told[reason]
                    break
            await asyncio.sleep(TELL_EVERY)
        self._writing.discard(reason)

    def _event(self, reason: str, told: _Told) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": told.name,
                "namespace": self._api.namespace,
                "labels": self._labels,
            },
            "involvedObject": {"namespace": self._api.namespace, **self._about},
            "type": "Warning",
            "reason": reason,
            "message": told.message,
            "count": told.count,
            "firstTimestamp": _second(told.first),
            "lastTimestamp": _second(told.last),
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
        }


def _second(seconds: float) -> str:
    return moment(seconds)[:19] + "Z"
