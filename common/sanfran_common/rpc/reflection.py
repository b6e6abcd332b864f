"""Server reflection: tells clients that were not compiled for our contracts what is offered.

What it knows is `descriptors.json` of the contracts, made when their code is generated: services have no
protobuf at run time. It is read at the first question.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from betterproto2.grpclib import ServiceBase
from grpclib import Status
from sanfran_proto.grpc.reflection import v1, v1alpha


@dataclass(frozen=True, slots=True)
class _Source:
    descriptor: bytes
    imports: tuple[str, ...]


class _Contracts:
    """The `.proto` files, and what is declared in which."""

    def __init__(self) -> None:
        found = json.loads(files("sanfran_proto").joinpath("descriptors.json").read_bytes())
        self._sources = {
            name: _Source(base64.b64decode(one["descriptor"]), tuple(one["imports"]))
            for name, one in found.items()
        }
        self._declared_in = {name: file for file, one in found.items() for name in one["names"]}

    def file(self, name: str) -> list[bytes] | None:
        """A file and those that it imports."""
        if name not in self._sources:
            return None
        wanted = [name]
        for one in wanted:
            wanted += [more for more in self._sources[one].imports if more not in wanted]
        return [self._sources[one].descriptor for one in wanted]

    def file_of(self, declared: str) -> list[bytes] | None:
        """The file that declares a service, method, message, field, enum or value."""
        return self.file(self._declared_in.get(declared, ""))


@functools.cache
def _contracts() -> _Contracts:
    return _Contracts()


def reflection(handlers: Sequence[Any]) -> list[ServiceBase]:
    """The service under both of its names, for a server with these handlers."""
    paths = [path for handler in handlers for path in handler.__mapping__()]
    named = dict.fromkeys(path.split("/")[1] for path in paths)
    services = [*named, "grpc.reflection.v1.ServerReflection"]
    services.append("grpc.reflection.v1alpha.ServerReflection")
    return [_V1(services), _V1Alpha(services)]


class _V1(v1.ServerReflectionBase):
    def __init__(self, services: Iterable[str]) -> None:
        self._services = tuple(services)

    async def server_reflection_info(
        self, messages: AsyncIterator[v1.ServerReflectionRequest]
    ) -> AsyncIterator[v1.ServerReflectionResponse]:
        async for message in messages:
            yield _answer(v1, self._services, message)


class _V1Alpha(v1alpha.ServerReflectionBase):
    def __init__(self, services: Iterable[str]) -> None:
        self._services = tuple(services)

    async def server_reflection_info(
        self, messages: AsyncIterator[v1alpha.ServerReflectionRequest]
    ) -> AsyncIterator[v1alpha.ServerReflectionResponse]:
        async for message in messages:
            yield _answer(v1alpha, self._services, message)


def _answer(words: Any, services: Iterable[str], asked: Any) -> Any:
    """One question, one answer.

    Args:
        words: the package of messages, of one name or the other of the service.
    """
    answer = words.ServerReflectionResponse(valid_host=asked.host, original_request=asked)
    if asked.list_services is not None:
        listed = [words.ServiceResponse(name=name) for name in services]
        answer.list_services_response = words.ListServiceResponse(service=listed)
        return answer
    found, what = None, "nothing"
    if (name := asked.file_by_filename) is not None:
        found, what = _contracts().file(name), f"file {name}"
    elif (name := asked.file_containing_symbol) is not None:
        found, what = _contracts().file_of(name), f"symbol {name}"
    elif (name := asked.all_extension_numbers_of_type) is not None:
        if _contracts().file_of(name) is not None:
            none = words.ExtensionNumberResponse(base_type_name=name)
            answer.all_extension_numbers_response = none
            return answer
        what = f"type {name}"
    elif asked.file_containing_extension is not None:
        what = "extension: these contracts have none"
    if found is not None:
        answer.file_descriptor_response = words.FileDescriptorResponse(file_descriptor_proto=found)
    else:
        text = f"not found: {what}"
        answer.error_response = words.ErrorResponse(Status.NOT_FOUND.value, text)
    return answer
