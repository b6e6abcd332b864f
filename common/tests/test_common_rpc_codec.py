"""The codec against betterproto2 itself, for every message of every contract."""

import dataclasses
from typing import Any

import betterproto2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sanfran_common.rpc.codec import CODEC
from sanfran_proto.grpc.health import v1 as health
from sanfran_proto.sanfran import v1 as pb

MESSAGES: list[Any] = [
    one
    for module in (pb, health)
    for one in vars(module).values()
    if isinstance(one, type)
    and issubclass(one, betterproto2.Message)
    and one is not betterproto2.Message
]
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    betterproto2.TYPE_STRING: st.text(),
    betterproto2.TYPE_BYTES: st.binary(),
    betterproto2.TYPE_BOOL: st.booleans(),
    betterproto2.TYPE_UINT32: st.integers(0, (1 << 32) - 1),
    betterproto2.TYPE_UINT64: st.integers(0, (1 << 64) - 1),
    betterproto2.TYPE_DOUBLE: st.floats(allow_nan=False),
}


def messages(cls: Any) -> st.SearchStrategy[Any]:
    """Messages of a class, with as many fields set as it comes."""
    fields = {}
    for field in dataclasses.fields(cls):
        meta = betterproto2.FieldMetadata.get(field)
        kind = cls._betterproto.cls_by_field[field.name]
        if meta.proto_type == betterproto2.TYPE_MESSAGE:
            values = messages(kind)
        elif meta.proto_type == betterproto2.TYPE_ENUM:
            values = st.integers(-3, 20).map(kind)
        elif meta.map_meta:
            values = st.dictionaries(*(SCALARS[one.proto_type] for one in meta.map_meta))
        else:
            values = SCALARS[meta.proto_type]
        if meta.repeated:
            values = st.lists(values, max_size=3)
        elif meta.optional or meta.group:
            values = st.none() | values
        fields[field.name] = values
    return st.builds(cls, **fields)


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
@given(chosen=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_message_is_written_and_read_as_betterproto2_does(
    cls: Any, chosen: st.DataObject
) -> None:
    message = chosen.draw(messages(cls))
    data = CODEC.encode(message, cls)
    assert data == bytes(message)
    assert CODEC.decode(data, cls) == cls.parse(data) == message


@given(data=st.binary(max_size=60))
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_are_a_message_or_a_value_error(data: bytes) -> None:
    for cls in (pb.FunctionVersion, pb.PodState, pb.Route, pb.FunctionEvent):
        try:
            message = CODEC.decode(data, cls)
        except ValueError:
            continue
        CODEC.encode(message, cls)


@given(message=messages(pb.FunctionVersion), kept=st.integers(0, 200))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_message_that_is_cut_off_inside_a_field_is_refused(
    message: pb.FunctionVersion, kept: int
) -> None:
    data = CODEC.encode(message, pb.FunctionVersion)[:kept]
    try:
        read = CODEC.decode(data, pb.FunctionVersion)
    except ValueError:
        return
    assert CODEC.encode(read, pb.FunctionVersion) == data  # cut between two fields


def test_fields_that_this_version_does_not_know_are_passed_on() -> None:
    newer = bytes(pb.FunctionVersion(name="hello")) + b"\xfa\x3e\x03new" + b"\xf0\x3e\x01"
    read = CODEC.decode(newer, pb.FunctionVersion)
    assert read.name == "hello"
    assert CODEC.encode(read, pb.FunctionVersion) == newer


def test_a_message_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="must be Route, not Endpoint"):
        CODEC.encode(pb.Endpoint(), pb.Route)


@dataclasses.dataclass(eq=False, repr=False)
class Numbers(betterproto2.Message):
    """With a kind of field that no contract of ours has."""

    many: "list[int]" = betterproto2.field(1, betterproto2.TYPE_UINT32, repeated=True)  # noqa: RUF009


def test_messages_with_fields_that_the_codec_does_not_know_are_left_to_betterproto2() -> None:
    numbers = Numbers(many=[1, 200, 3])
    assert CODEC.decode(CODEC.encode(numbers, Numbers), Numbers) == numbers
