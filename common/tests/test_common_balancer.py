"""Which address gets the next call, on a clock that the tests turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sanfran_common.rpc.addresses import parse_target
from sanfran_common.rpc.balancer import EJECT_FIRST, EJECT_MOST, Balancer, NoAddress

ADDRESSES = st.lists(st.sampled_from([f"10.0.0.{n}:90" for n in range(9)]), min_size=2, unique=True)


def test_the_address_with_fewest_pending_calls_is_picked() -> None:
    balancer = Balancer(["a:1", "b:1"])
    balancer.started("a:1")
    assert {balancer.pick(0) for _ in range(5)} == {"b:1"}
    balancer.ended("a:1")
    assert {balancer.pick(0) for _ in range(5)} == {"a:1", "b:1"}


def test_a_failed_address_is_left_out_until_its_probe_succeeds() -> None:
    balancer = Balancer(["a:1", "b:1"])
    balancer.failed("a:1", now=10)
    assert {balancer.pick(1000) for _ in range(5)} == {"b:1"}
    assert balancer.to_probe(10 + EJECT_FIRST / 2) == []
    assert balancer.to_probe(10 + EJECT_FIRST) == ["a:1"]
    balancer.succeeded("a:1")
    assert balancer.next_probe_at() is None
    assert {balancer.pick(11) for _ in range(5)} == {"a:1", "b:1"}


def test_each_further_failure_doubles_the_pause_up_to_a_limit() -> None:
    balancer = Balancer(["a:1"])
    pauses, now = [], 0.0
    for _ in range(10):
        balancer.failed("a:1", now)
        due = balancer.next_probe_at()
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses[:3] == pytest.approx([EJECT_FIRST, EJECT_FIRST * 2, EJECT_FIRST * 4])
    assert pauses[-1] == pytest.approx(EJECT_MOST)


def test_calls_that_break_with_one_connection_count_as_one_failure() -> None:
    balancer = Balancer(["a:1", "b:1"])
    for _ in range(50):
        balancer.failed("a:1", now=10)
    assert balancer.next_probe_at() == 10 + EJECT_FIRST


def test_with_all_ejected_the_one_whose_time_is_up_first_is_tried() -> None:
    balancer = Balancer(["a:1", "b:1"])
    balancer.failed("b:1", now=0)
    balancer.failed("a:1", now=5)
    assert balancer.pick(5) == "b:1"
    assert balancer.pick(5, tried={"b:1"}) == "a:1"
    with pytest.raises(NoAddress):
        balancer.pick(5, tried={"a:1", "b:1"})


def test_an_update_keeps_what_is_known_of_those_that_stay() -> None:
    balancer = Balancer(["a:1", "b:1"])
    balancer.failed("a:1", now=0)
    assert balancer.update(["a:1", "c:1"])
    assert not balancer.update(["c:1", "a:1"])
    assert {balancer.pick(0) for _ in range(5)} == {"c:1"}
    balancer.ended("b:1")  # a call to one that has gone meanwhile
    balancer.failed("b:1", 0)
    assert set(balancer.addresses) == {"a:1", "c:1"}


@given(addresses=ADDRESSES, keys=st.lists(st.text(), max_size=30))
def test_when_an_address_goes_only_its_own_keys_move(addresses: list[str], keys: list[str]) -> None:
    before = Balancer(addresses)
    after = Balancer(addresses[1:])
    for key in keys:
        first = before.pick_by_key(key, 0)
        assert first == Balancer(reversed(addresses)).pick_by_key(key, 0)
        if first != addresses[0]:
            assert after.pick_by_key(key, 0) == first


def test_targets_are_lists_or_one_name_to_resolve() -> None:
    assert parse_target("a:1, unix:/x,a:1").fixed == ("a:1", "unix:/x")
    assert parse_target("dns:api:9090").dns == ("api", 9090)
    assert parse_target("").fixed == ()
    for bad in ("api", "unix:x", "dns:api", "a:1,b"):
        with pytest.raises(ValueError, match="try"):
            parse_target(bad)
