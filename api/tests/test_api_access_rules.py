"""Pure parts of who may do what: headers, limits, groups."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sanfran_api.access.credentials import (
    BadCredentials,
    Password,
    Token,
    parse_authorization,
)
from sanfran_api.access.errors import Forbidden
from sanfran_api.access.failures import ADDRESS, KNOWN_SECONDS, PAIR, Failures, network_of
from sanfran_api.access.privileges import Privilege
from sanfran_api.access.rules import BUILT_IN, NOBODY_ASKED, BadRules, parse_rules

NAMES = st.text(st.characters(exclude_characters=":", exclude_categories=["C", "Z"]), min_size=1)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@settings(deadline=None, max_examples=50)
@given(
    NAMES.filter(lambda name: len(name) < 200), st.text(st.characters(categories=["L", "N", "P"]))
)
def test_whatever_user_and_password_are_the_header_gives_them_back(
    user: str, password: str
) -> None:
    assert parse_authorization(basic(user, password[:1000])) == Password(user, password[:1000])


@settings(deadline=None, max_examples=50)
@given(st.one_of(st.text(), st.text().map("Basic {}".format), st.text().map("bearer {}".format)))
def test_any_header_is_read_or_refused_and_nothing_else(header: str) -> None:
    try:
        found = parse_authorization(header)
    except BadCredentials:
        return
    assert found is None or (isinstance(found, Password) and found.user) or isinstance(found, Token)


@pytest.mark.parametrize(
    "header",
    [
        "Digest username=vik",
        "Basic",
        "Basic dmlr",  # no colon
        "Basic OnNlY3JldA==",  # no user
        "Basic dmlrOnNlY3JldA== x",
        "Basic dmlrOnNl\tY3JldA==",
        "Basic /////w==",  # no UTF-8
        basic("vik", "a\nb"),
        basic("vik\x00", "secret"),
        "Bearer",
        "Bearer a b",
        "Bearer ä",
        "Bearer " + "x" * 20_000,
        "Basic dmlrOnNlY3JldA==,Basic dmlrOnNlY3JldA==",
    ],
)
def test_headers_of_no_known_form_are_refused(header: str) -> None:
    with pytest.raises(BadCredentials):
        parse_authorization(header)


def test_a_password_does_not_show_where_credentials_are_printed() -> None:
    assert "hunter2" not in repr(Password("vik", "hunter2"))
    assert "abc" not in repr(Token("abc"))


def test_after_so_many_wrong_passwords_a_user_has_to_wait_and_others_do_not() -> None:
    failures = Failures()
    for _ in range(PAIR.burst):
        assert failures.attempt("vik", "10.0.0.1", 100.0) == 0
    assert failures.attempt("vik", "10.0.0.1", 100.0) == pytest.approx(PAIR.every)
    assert failures.attempt("ada", "10.0.0.1", 100.0) == 0
    assert failures.attempt("vik", "10.0.0.2", 100.0) == 0
    assert failures.attempt("vik", "10.0.0.1", 100.0 + PAIR.every) == 0
    assert failures.attempt("vik", "10.0.0.1", 100.0 + PAIR.every) > 0


def test_right_passwords_cost_no_attempts() -> None:
    failures = Failures()
    for _ in range(1000):
        assert failures.attempt("vik", "10.0.0.1", 0.0) == 0
        failures.succeeded("vik", "10.0.0.1", 0.0)


def test_an_attack_on_many_users_from_one_address_keeps_out_nobody_who_is_known_there() -> None:
    failures = Failures()
    assert failures.attempt("ada", "10.0.0.1", 0.0) == 0
    failures.succeeded("ada", "10.0.0.1", 0.0)
    waits = [failures.attempt(f"user-{i}", "10.0.0.1", 1.0) for i in range(ADDRESS.burst + 5)]
    assert waits[0] == 0
    assert waits[-1] > 0
    assert failures.attempt("new", "10.0.0.1", 1.0) > 0
    assert failures.attempt("ada", "10.0.0.1", 1.0) == 0
    failures.succeeded("ada", "10.0.0.1", 1.0)
    assert failures.attempt("ada", "10.0.0.1", 2 * KNOWN_SECONDS) == 0


def test_an_attack_on_one_user_from_everywhere_is_limited_but_not_where_the_user_is_known() -> None:
    failures = Failures()
    failures.attempt("ada", "192.168.1.1", 0.0)
    failures.succeeded("ada", "192.168.1.1", 0.0)
    waits = [failures.attempt("ada", f"10.{i}.0.1", 1.0) for i in range(200)]
    assert sum(wait == 0 for wait in waits) == 100
    assert failures.attempt("ada", "192.168.1.1", 1.0) == 0


def test_the_tables_of_failures_do_not_grow_without_end() -> None:
    failures = Failures(size=100)
    for i in range(1000):
        failures.attempt(f"user-{i}", f"10.0.{i % 250}.{i // 250}", 0.0)
    for buckets in (failures._pairs, failures._addresses, failures._users):
        assert len(buckets) <= 100


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 20)), max_size=60),
)
def test_no_sequence_of_attempts_gets_more_than_the_limit(steps: list[tuple[bool, float]]) -> None:
    failures = Failures()
    now = wrong = 0.0
    for right, pause in steps:
        now += pause
        if failures.attempt("vik", "10.0.0.1", now) == 0:
            if right:
                failures.succeeded("vik", "10.0.0.1", now)
            else:
                wrong += 1
        assert wrong <= PAIR.burst + now / PAIR.every


def test_an_attacker_with_a_network_of_ipv6_is_one_attacker() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:10.0.0.1") == "10.0.0.1"
    assert network_of("unix") == "unix"


ACCESS = b"""
groups:
  shop:
    - privileges: [functions:list, functions:update]
      functions: ["shop-*", "cart"]
    - privileges: ["settings:*"]
      functions: ["shop-?"]
  looker:
    - privileges: [functions:list]
users:
  ada: [shop]
"""


def test_groups_give_privileges_on_the_names_that_their_patterns_match() -> None:
    rules = parse_rules(ACCESS)
    vik = rules.caller("vik", ["shop", "unknown"])
    assert vik.may(Privilege.LIST, "shop-one")
    assert vik.may(Privilege.LIST, "cart")
    assert not vik.may(Privilege.LIST, "carts")
    assert not vik.may(Privilege.LIST, "my-shop-one")
    assert not vik.may(Privilege.DELETE, "cart")
    assert vik.may(Privilege.VIEW_SETTINGS, "shop-1")
    assert not vik.may(Privilege.VIEW_SETTINGS, "shop-12")
    assert vik.may_somewhere(Privilege.UPDATE_SETTINGS)
    assert not vik.may_somewhere(Privilege.CREATE)
    with pytest.raises(Forbidden, match="'vik' lacks functions:delete on 'cart'"):
        vik.check(Privilege.DELETE, "cart")
    with pytest.raises(Forbidden):
        vik.check_everything()


def test_a_user_has_the_groups_of_the_file_beside_those_of_the_token() -> None:
    rules = parse_rules(ACCESS)
    assert rules.caller("ada", ["looker"]).groups == {"shop", "looker"}
    assert rules.caller("bob", []).grants == ()


def test_admins_may_everything_whatever_the_file_says() -> None:
    for rules in (BUILT_IN, parse_rules(ACCESS), parse_rules(b"{}")):
        rules.caller("vik", ["admin"]).check_everything()
    NOBODY_ASKED.check_everything()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"groups: [a]", "groups: ['a'] is no mapping"),
        (b"grups: {}", "'grups' is no field; try groups or users"),
        (b"groups: {admin: []}", "groups.admin: is built in"),
        (
            b"groups: {a: [{privileges: [functions:fly]}]}",
            "'functions:fly' is none; try functions:list",
        ),
        (b"groups: {a: [{functions: ['*']}]}", "groups.a[0].privileges: None is no list"),
        (b"groups: {a: [{privileges: ['*'], functions: [Shop]}]}", "'Shop' matches no name"),
        (b"groups: {a: [{privileges: ['*'], names: ['*']}]}", "'names' is no field"),
        (b"users: {vik: [nobody]}", "users.vik: 'nobody' is no group here; try admin"),
        (b"a: [", "not YAML"),
        (b"\xff\xfe\xfa", "not YAML"),
        (b"- a", "is no mapping"),
    ],
)
def test_a_wrong_access_file_is_refused_by_field_value_and_what_works(
    content: bytes, message: str
) -> None:
    with pytest.raises(BadRules) as refused:
        parse_rules(content)
    assert message in str(refused.value)


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_access_file_is_read_or_refused_and_nothing_else(content: bytes) -> None:
    try:
        parse_rules(content)
    except BadRules:
        pass
