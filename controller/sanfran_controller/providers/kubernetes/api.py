"""Calls of the Kubernetes API server in one namespace, with plain dicts and errors that say what to do.

The client's own models would cost a millisecond for each pod of a list, so what comes is parsed as JSON and no more.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
from kubernetes_asyncio.client import ApiClient
from kubernetes_asyncio.config import ConfigException

from sanfran_controller.providers import ProviderError
from sanfran_controller.providers.kubernetes.calls import CALLS, Kind

Object = dict[str, Any]

CALL_TIMEOUT = 10.0
"""Seconds. An API server answers in milliseconds; one that is being replaced holds calls for some seconds."""
PAGE = 500
"""Objects of one answer: about 4 MB of pods."""
WATCH_SECONDS = 300
"""After so many the server ends a watch, which spreads the load when there are several servers."""
MAX_EVENT = 4 << 20
"""Bytes; an object is at most 1.5 MB."""
MERGE = "application/merge-patch+json"
_METHODS = {"create": "POST", "delete": "DELETE", "patch": "PATCH", "update": "PUT"}


class ApiError(ProviderError):
    """The API server refused, or could not be reached.

    Args:
        status: of HTTP; 0: no answer.
        reason: a word for programs, as in `Status` of Kubernetes.
        message: for people.
        retry_after: see `ProviderError`.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class KubeApi:
    """Calls in one namespace.

    Args:
        client: whoever made it closes it.
        namespace: of all objects.
    """

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self._client = client
        self.namespace = namespace

    async def get(self, kind: Kind, name: str) -> Object:
        """One object."""
        return await self._call("get", kind, name)

    async def create(self, kind: Kind, body: Object) -> Object:
        """Makes an object, and returns it as it is."""
        return await self._call("create", kind, body=body)

    async def update(self, kind: Kind, name: str, body: Object) -> Object:
        """Replaces an object; 409 when its `resourceVersion` is not the newest."""
        return await self._call("update", kind, name, body=body)

    async def patch(self, kind: Kind, name: str, body: Object) -> Object:
        """Merges into an object; 409 when `uid` or `resourceVersion` in it are not the object's."""
        return await self._call("patch", kind, name, body=body, content_type=MERGE)

    async def delete(
        self, kind: Kind, name: str, *, grace: int | None = None, only_if: Object | None = None
    ) -> Object:
        """Deletes an object.

        Args:
            grace: seconds that a pod's processes get; None: as the pod says.
            only_if: `uid` and `resourceVersion` that it must have, else 409.
        """
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        if only_if is not None:
            body["preconditions"] = only_if
        return await self._call("delete", kind, name, body=body)

    async def list_all(self, kind: Kind, selector: str) -> tuple[list[Object], str]:
        """All objects with these labels, and the version of that moment."""
        found: list[Object] = []
        page = ""
        while True:
            query = [("labelSelector", selector), ("limit", str(PAGE))]
            if page:
                query.append(("continue", page))
            answer = await self._call("list", kind, query=query)
            found += answer["items"]
            page = answer["metadata"].get("continue") or ""
            if not page:
                return found, answer["metadata"]["resourceVersion"]

    async def watch(
        self, kind: Kind, selector: str, version: str, silence: float
    ) -> AsyncGenerator[Object]:
        """Changes after that version, and bookmarks, until the server ends it.

        Args:
            silence: seconds without a byte after which the connection counts as dead.

        Raises:
            ApiError: 410 when the server does not remember that version.
        """
        query = [
            ("labelSelector", selector),
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", str(WATCH_SECONDS)),
        ]
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CALL_TIMEOUT, sock_read=silence)
        response = await self._send("watch", kind, query=query, timeout=timeout)
        try:
            waiting = bytearray()
            async for data in _guarded(response.content):
                waiting += data
                *lines, rest = waiting.split(b"\n")
                waiting = rest
                if len(waiting) > MAX_EVENT:
                    raise ApiError(0, "", f"an event of more than {MAX_EVENT >> 20} MB")
                for line in lines:
                    if line.strip():
                        yield _parsed(bytes(line))
        finally:
            response.close()

    async def _call(
        self,
        verb: str,
        kind: Kind,
        name: str = "",
        *,
        query: list[tuple[str, str]] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        response = await self._send(
            verb, kind, name, query=query, body=body, content_type=content_type
        )
        try:
            return _parsed(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(0, "", _unreachable(error)) from error
        finally:
            response.release()

    async def _send(
        self,
        verb: str,
        kind: Kind,
        name: str = "",
        *,
        query: list[tuple[str, str]] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> aiohttp.ClientResponse:
        assert verb in CALLS[kind], f"{verb} {kind.plural} is not among the calls that are granted"
        path = f"{kind.path}/namespaces/{self.namespace}/{kind.plural}"
        try:
            response: aiohttp.ClientResponse = await self._client.call_api(
                f"{path}/{name}" if name else path,
                _METHODS.get(verb, "GET"),
                query_params=query,
                header_params={"Accept": "application/json", "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=timeout or aiohttp.ClientTimeout(total=CALL_TIMEOUT),
            )
            if response.status < 300:
                return response
            text = await response.read()
        # ConfigException: the file with the token is being written anew.
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            raise ApiError(0, "", _unreachable(error)) from error
        response.release()
        raise _refusal(response, text)


async def _guarded(stream: aiohttp.StreamReader) -> AsyncGenerator[bytes]:
    try:
        async for data in stream.iter_any():
            yield data
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ApiError(0, "", _unreachable(error)) from error


def _parsed(text: bytes) -> Object:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ApiError(0, "", f"the API server sent what is no object: {text[:200]!r}")
    return found


def _refusal(response: aiohttp.ClientResponse, text: bytes) -> ApiError:
    try:
        said = json.loads(text)
        reason, message = str(said.get("reason", "")), str(said.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = response.reason or "", text[:200].decode(errors="replace")
    after = response.headers.get("Retry-After", "")
    return ApiError(
        response.status, reason, message, float(after) if after.isascii() and after.isdigit() else 0
    )


def _unreachable(error: BaseException) -> str:
    return f"the API server does not answer: {type(error).__name__} {error}".rstrip()


def moment(seconds: float) -> str:
    """A time as Kubernetes' MicroTime, from seconds since 1970."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
