"""What grpcurl and its like do: ask what is offered, build the messages from the answer, and call. The client is
gRPC's own, with protobuf."""

import asyncio
import base64
import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass

from tests.certificates import Authority

NAMES = ("v1", "v1alpha")


class Client:
    """Knows the protocol of reflection, and of ours only what it is told."""

    def __init__(self, address: str, package: str, secret: str = "", tls: str = "") -> None:
        if tls:
            files_of = [Path(tls, name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt")]
            role = (("grpc.ssl_target_name_override", "api.sanfran.internal"),)
            shown = grpc.ssl_channel_credentials(*files_of)
            self._channel = grpc.secure_channel(address, shown, options=role)
        else:
            self._channel = grpc.insecure_channel(address)
        self._metadata = [("authorization", f"Bearer {secret}")] if secret else []
        self._package = f"grpc.reflection.{package}"
        found = json.loads(files("sanfran_proto").joinpath("descriptors.json").read_bytes())
        name = "reflection.proto" if package == "v1" else "reflection_v1alpha.proto"
        self._protocol = DescriptorPool()
        self._protocol.AddSerializedFile(base64.b64decode(found[name]["descriptor"]))
        self.pool = DescriptorPool()

    def reflect(self, *questions: dict[str, Any]) -> list[Any]:
        request = self._word("ServerReflectionRequest")
        ask = self._channel.stream_stream(
            f"/{self._package}.ServerReflection/ServerReflectionInfo",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self._word("ServerReflectionResponse").FromString,
        )
        messages: Iterable[Any] = iter([request(**one) for one in questions])
        return list(ask(messages, timeout=20, metadata=self._metadata))

    def learn(self, answer: Any) -> list[str]:
        """Takes up the files of an answer, those first that others need."""
        given = answer.file_descriptor_response.file_descriptor_proto
        known: dict[str, FileDescriptorProto] = {}
        for one in given:
            file = FileDescriptorProto.FromString(one)
            known[file.name] = file
        left = list(known.values())
        while left:
            file = next(one for one in left if not {f.name for f in left} & set(one.dependency))
            self.pool.Add(file)
            left.remove(file)
        return list(known)

    def call(self, method: str, **fields: Any) -> dict[str, Any]:
        service, name = method.rsplit("/", 1)
        described = self.pool.FindServiceByName(service).methods_by_name[name]
        reply = GetMessageClass(described.output_type)
        invoke = self._channel.unary_unary(
            f"/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=reply.FromString,
        )
        message = GetMessageClass(described.input_type)(**fields)
        answered = invoke(message, timeout=20, metadata=self._metadata)
        return dict(MessageToDict(answered, preserving_proto_field_name=True))

    def _word(self, name: str) -> Any:
        return GetMessageClass(self._protocol.FindMessageTypeByName(f"{self._package}.{name}"))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()


@pytest.mark.parametrize("package", NAMES)
async def test_a_client_that_knows_no_contract_learns_it_and_calls(
    run_api: Any, package: str
) -> None:
    def as_grpcurl_does(address: str) -> None:
        with Client(address, package, secret="s3") as client:
            services, symbol = client.reflect(
                {"list_services": "*"}, {"file_containing_symbol": "sanfran.v1.Api"}
            )
            assert [one.name for one in services.list_services_response.service] == [
                "sanfran.v1.Api",
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
            ]
            assert set(client.learn(symbol)) == {
                "api.proto",
                "google/protobuf/field_mask.proto",
                "types.proto",
            }
            told = client.call("sanfran.v1.Api/GetFunction", name="hello")
            assert (told["name"], told["version"]) == ("hello", "1")
            client.learn(client.reflect({"file_by_filename": "health.proto"})[0])
            assert client.call("grpc.health.v1.Health/Check") == {"status": "SERVING"}

    async with run_api(rpc_secret="s3") as api:
        await api.create("hello")
        await asyncio.to_thread(as_grpcurl_does, api.life.addresses["rpc"])


async def test_every_name_is_found_and_what_is_not_there_is_said(run_api: Any) -> None:
    def ask(address: str) -> None:
        with Client(address, "v1") as client:
            there = [
                "sanfran.v1.FunctionSettings.timeout_ms",
                "sanfran.v1.Api.WatchFunctions",
                "sanfran.v1.LogLevel",
                "sanfran.v1.Controller",
                "grpc.health.v1.HealthCheckResponse.ServingStatus",
            ]
            for one in client.reflect(*({"file_containing_symbol": name} for name in there)):
                assert one.file_descriptor_response.file_descriptor_proto, one
            missing = client.reflect(
                {"file_containing_symbol": "sanfran.v1.Nothing"},
                {"file_by_filename": "../types.proto"},
                {"all_extension_numbers_of_type": "sanfran.v1.Nothing"},
                {"file_containing_extension": {"containing_type": "x", "extension_number": 1}},
                {},
            )
            assert [one.error_response.error_code for one in missing] == [5] * 5
            assert missing[0].error_response.error_message == "not found: symbol sanfran.v1.Nothing"
            (none,) = client.reflect({"all_extension_numbers_of_type": "sanfran.v1.Upload"})
            assert none.all_extension_numbers_response.base_type_name == "sanfran.v1.Upload"
            assert not none.all_extension_numbers_response.extension_number

    async with run_api() as api:
        await asyncio.to_thread(ask, api.life.addresses["rpc"])


async def test_a_client_of_another_make_speaks_our_tls(run_api: Any, tmp_path: Path) -> None:
    ours = Authority()
    shown = ours.folder(tmp_path / "controller", "controller")

    def ask(address: str) -> None:
        with Client(address, "v1", tls=shown) as client:
            (symbol,) = client.reflect({"file_containing_symbol": "sanfran.v1.Api"})
            client.learn(symbol)
            assert client.call("sanfran.v1.Api/GetFunction", name="hello")["version"] == "1"
            with pytest.raises(grpc.RpcError) as refused:
                client.call("sanfran.v1.Api/DeleteFunction", name="hello")
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED

    async with run_api(tls_dir=ours.folder(tmp_path / "api", "api")) as api:
        await api.create("hello")
        await asyncio.to_thread(ask, api.life.addresses["rpc"])


async def test_without_the_secret_nothing_is_told(run_api: Any) -> None:
    def ask(address: str) -> None:
        with Client(address, "v1") as client, pytest.raises(grpc.RpcError) as refused:
            client.reflect({"list_services": "*"})
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED

    async with run_api(rpc_secret="s3") as api:
        await asyncio.to_thread(ask, api.life.addresses["rpc"])
