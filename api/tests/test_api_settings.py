"""Names and settings: what is accepted, and what an error says."""

import json
import string
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sanfran_api.errors import BadRequest
from sanfran_api.labels import parse_selector
from sanfran_api.names import check_name, is_name
from sanfran_api.settings import (
    FIELDS,
    MAX_ENV_BYTES,
    Settings,
    from_message,
    parse_settings,
    revise,
    stored,
    to_message,
)
from sanfran_proto.sanfran import v1 as pb

LABEL = string.ascii_lowercase + string.digits


@pytest.mark.parametrize("name", ["a", "0", "hello", "a-b", "a--b", "x" * 63])
def test_a_dns_label_is_a_name(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "is missing"),
        ("Hello", "such as 'hello'"),
        ("my_func", "such as 'my-func'"),
        ("-a", "such as 'a'"),
        ("a-", "such as 'a'"),
        ("a\n", "such as 'a'"),
        ("ä", "such as 'hello'"),
        ("x" * 64, "64 characters, 63 are allowed"),
        ("a/b", "such as 'a-b'"),
        ("..", "such as 'hello'"),
    ],
)
def test_a_bad_name_is_refused_with_one_that_works(name: str, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_name(name)
    assert says in caught.value.message
    assert caught.value.field == "name"


@given(st.text(max_size=70))
def test_only_dns_labels_are_names(text: str) -> None:
    label = (
        0 < len(text) <= 63
        and all(character in LABEL + "-" for character in text)
        and not text.startswith("-")
        and not text.endswith("-")
    )
    assert is_name(text) is label


@given(st.text(min_size=1, max_size=70).filter(lambda text: not is_name(text)))
def test_the_name_that_an_error_suggests_works(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_name(text)
    assert is_name(caught.value.message.rpartition("such as ")[2].strip("'"))


def test_defaults_are_complete() -> None:
    assert to_message(revise(Settings(), {})).to_dict() == {
        "timeoutMs": 60_000,
        "concurrency": 100,
        "memoryMb": 512,
    }


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"timeout": "5"}, "settings.timeout", "'5' is not accepted; seconds from 0.001"),
    ({"timeout": 0}, "settings.timeout", "0 is not accepted"),
    ({"timeout": True}, "settings.timeout", "True is not accepted"),
    ({"timeout": float("nan")}, "settings.timeout", "nan is not accepted"),
    ({"timeout": float("inf")}, "settings.timeout", "inf is not accepted"),
    ({"timeout": 10**400}, "settings.timeout", "is not accepted"),
    ({"concurrency": 0}, "settings.concurrency", "a whole number from 1 to 10000"),
    ({"concurrency": 1.5}, "settings.concurrency", "1.5 is not accepted"),
    ({"min_scale": -1}, "settings.min_scale", "-1 is not accepted"),
    ({"min_scale": 3, "max_scale": 2}, "settings.min_scale", "3 is more than max_scale, 2"),
    ({"idle_timeout": -1}, "settings.idle_timeout", "-1 is not accepted"),
    ({"memory": 63}, "settings.memory", "63 is not accepted; megabytes, a whole number from 64"),
    ({"size": 1}, "settings.size", "unknown; the settings are env, secrets, timeout"),
    ({"size": None}, "settings.size", "unknown"),
    ({"labels": []}, "settings.labels", "an object of strings works"),
    ({"labels": {"a": None}}, "settings.labels", "the value of 'a' is not a string"),
    ({"labels": {"": "b"}}, "settings.labels", "such as team or example.com/team"),
    ({"labels": {"-a": "b"}}, "settings.labels", "'-a' is no label"),
    ({"labels": {"a\n": "b"}}, "settings.labels", "is no label"),
    ({"labels": {"a" * 64: "b"}}, "settings.labels", "is no label"),
    ({"labels": {"/a": "b"}}, "settings.labels", "the prefix of '/a' is no DNS name"),
    ({"labels": {"A.b/a": "b"}}, "settings.labels", "the prefix of"),
    ({"labels": {"a/b/c": "b"}}, "settings.labels", "the prefix of"),
    ({"labels": {"a": "b c"}}, "settings.labels", "'b c' is no value of 'a'"),
    ({"labels": {"a": "b" * 64}}, "settings.labels", "is no value of 'a'"),
    ({"labels": {f"a{n}": "" for n in range(65)}}, "settings.labels", "64 are allowed"),
    ({"body_limit": -1}, "settings.body_limit", "bytes, a whole number from 0"),
    ({"body_limit": "10m"}, "settings.body_limit", "'10m' is not accepted"),
    ({"body_limit": 1 << 41}, "settings.body_limit", "is not accepted"),
    ({"invoke": "secret"}, "settings.invoke", '"public" and "private" work'),
    ({"env": []}, "settings.env", "an object of strings works"),
    ({"env": {"A": 1}}, "settings.env", "the value of 'A' is not a string"),
    ({"env": {"1A": ""}}, "settings.env", "'1A' is no variable name"),
    ({"env": {"": ""}}, "settings.env", "'' is no variable name"),
    ({"env": {"A\n": ""}}, "settings.env", "is no variable name"),
    ({"env": {"SANFRAN_X": ""}}, "settings.env", "'SANFRAN_X' is reserved"),
    ({"env": {"NODE_OPTIONS": ""}}, "settings.env", "'NODE_OPTIONS' is reserved"),
    ({"env": {"A": "\0"}}, "settings.env", "NUL"),
    ({"env": {"A": "\ud800"}}, "settings.env", ""),
    ({"env": {"A": "x" * MAX_ENV_BYTES}}, "settings.env", f"{MAX_ENV_BYTES} are allowed"),
]


@pytest.mark.parametrize(("given", "field", "says"), BAD)
def test_a_bad_setting_is_refused_by_field_and_value(
    given: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        revise(Settings(), given)
    assert caught.value.field == field
    assert caught.value.message.startswith(field)
    assert says in caught.value.message
    assert len(caught.value.message) < 400


def test_a_value_of_env_is_not_repeated_in_the_error() -> None:
    with pytest.raises(BadRequest) as caught:
        revise(Settings(), {"env": {"A": ["hunter2"]}})
    assert "hunter2" not in caught.value.message


def test_only_given_fields_are_replaced_and_env_as_a_whole() -> None:
    before = revise(Settings(), {"timeout": 5, "env": {"A": "1", "B": "2"}, "min_scale": 1})
    after = revise(before, {"env": {"C": "3"}, "min_scale": None})
    assert after == Settings(env={"C": "3"}, timeout=5)


def test_labels_of_kubernetes_are_labels_here() -> None:
    labels = {"app.kubernetes.io/name": "Shop_1.2", "team": "", "x": "y" * 63, "0": "0"}
    assert revise(Settings(), {"labels": labels}).labels == labels


@pytest.mark.parametrize(
    ("terms", "labels", "found"),
    [
        ([], {}, True),
        (["a=1"], {"a": "1", "b": "2"}, True),
        (["a=1"], {"a": "2"}, False),
        (["a="], {"a": ""}, True),
        (["a="], {"a": "1"}, False),
        (["a"], {"a": "1"}, True),
        (["a"], {"b": "1"}, False),
        (["a", "a=1"], {"a": "2"}, False),
        (["a=1", "a"], {"a": "2"}, False),
        (["a=1", "b=2"], {"a": "1"}, False),
    ],
)
def test_a_function_is_found_by_all_labels_that_are_asked_for(
    terms: list[str], labels: dict[str, str], found: bool
) -> None:
    assert parse_selector(terms).matches(labels) is found


@pytest.mark.parametrize("terms", [["a b"], [""], ["=x"], ["a=b c"], ["a=1", "a=2"]])
def test_what_no_label_can_be_is_not_searched_for(terms: list[str]) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_selector(terms)
    assert caught.value.field == "label"


def test_an_unknown_choice_of_a_grpc_client_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        revise(Settings(), from_message(pb.FunctionSettings(invoke=pb.Invoke(7))))
    assert caught.value.field == "settings.invoke"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)) | st.text(max_size=8), json_values))
def test_any_settings_are_accepted_or_refused_by_field(given: dict[str, Any]) -> None:
    try:
        settings = revise(Settings(), given)
    except BadRequest as refusal:
        refused = refusal.field
    else:
        refused = "settings."
        message = to_message(settings)
        # What was stored is what was meant, to the millisecond.
        assert to_message(stored(message)) == message
        assert to_message(revise(Settings(), from_message(message))) == message
    assert refused.startswith("settings.")


@given(st.text() | st.binary())
def test_settings_that_are_no_json_object_are_refused(text: str | bytes) -> None:
    with suppress(BadRequest):  # any other exception is a failure
        assert isinstance(parse_settings(text), dict)


def test_deeply_nested_json_is_refused() -> None:
    with pytest.raises(BadRequest):
        parse_settings("[" * 100_000)
    with pytest.raises(BadRequest):
        parse_settings(json.dumps([1]))
