"""Who lives, on a clock that the tests turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sanfran_sidecar.errors import NameTaken
from sanfran_sidecar.host.leases import STANDSTILL, Leases

TTL = 5.0


def names(leases: Leases) -> list[str]:
    return [lease.name for lease in leases.live()]


def test_one_that_is_silent_for_its_lease_lives_no_more() -> None:
    leases = Leases()
    for now in range(5):
        leases.renew("a", "a1", "a:1", TTL, now)
        if now == 0:
            leases.renew("b", "b1", "", TTL, now)
    assert names(leases) == ["a", "b"]
    leases.renew("a", "a1", "a:1", TTL, 5.0)
    assert names(leases) == ["a"]
    assert not leases.holds("b", "b1")
    leases.renew("b", "b1", "", TTL, 6.0)
    assert names(leases) == ["a", "b"]


def test_a_name_passes_on_when_its_process_is_gone_or_silent_and_not_before() -> None:
    leases = Leases()
    assert not leases.renew("a", "first", "", TTL, 0.0)
    leases.connected("a", "first", 1)
    with pytest.raises(NameTaken, match="first"):
        leases.renew("a", "second", "", TTL, 1.0)
    leases.connected("a", "first", 0)
    assert leases.renew("a", "second", "", TTL, 1.1)
    assert leases.superseded("a", "first")
    leases.connected("a", "second", 1)
    with pytest.raises(NameTaken):
        leases.renew("a", "first", "", TTL, 1.2)
    for now in (2.0, 4.0, 6.0):
        leases.renew("other", "o", "", TTL, now)
    assert leases.renew("a", "third", "", TTL, 6.2), "the second hangs, though it is connected"
    assert leases.holds("a", "third")


def test_when_the_record_itself_stood_still_nobody_is_taken_for_dead() -> None:
    leases = Leases()
    for name in ("a", "b"):
        leases.renew(name, name, "", TTL, 0.0)
    leases.renew("a", "a", "", TTL, 100.0)
    assert names(leases) == ["a", "b"]
    leases.renew("b", "b", "", TTL, 100.1)
    for now in (102.0, 104.0, 105.2):
        leases.renew("b", "b", "", TTL, now)
    assert names(leases) == ["b"], "from then on silence counts"


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from("12"),
            st.booleans(),
            # Not all of it: sums of floats that are rounded may be a hair longer.
            st.floats(0.01, STANDSTILL - 0.01),
        ),
        max_size=60,
    )
)
def test_one_process_at_a_time_has_a_name_and_each_lives_exactly_as_long_as_its_lease(
    renewals: list[tuple[str, str, bool, float]],
) -> None:
    leases = Leases()
    now = 0.0
    renewed: dict[str, tuple[str, float]] = {}
    for name, process, connects, passes in renewals:
        now += passes
        former = renewed.get(name)
        try:
            leases.renew(name, process, "", TTL, now)
        except NameTaken:
            assert former is not None
            assert former[0] != process
            assert now - former[1] < TTL
        else:
            renewed[name] = (process, now)
            leases.connected(name, process, int(connects))
        alive = {name for name, (_, at) in renewed.items() if now < at + TTL}
        assert set(names(leases)) == alive
        for one in alive:
            assert [leases.holds(one, each) for each in "12"].count(True) == 1
