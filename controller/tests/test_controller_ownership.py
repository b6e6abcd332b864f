"""Who owns what, decided from what is recorded, without clock or network."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sanfran_common.rpc.balancer import Balancer
from sanfran_controller.ownership import Ownership
from sanfran_controller.pool import PoolLimits
from sanfran_controller.providers import (
    ControllerSeen,
    ControllersListed,
    PodSeen,
    PodsListed,
    PodVanished,
)

NAMES = ("a", "b", "c", "d")
some_live = st.sets(st.sampled_from(NAMES), min_size=1)
owners = st.lists(st.sampled_from((*NAMES, "dead")), max_size=20)


def seen(number: int, owner: str) -> PodSeen:
    return PodSeen(f"pod-{number}", owner, f"unix:/pod-{number}", ready=True, term=1)


def listed(live: set[str]) -> ControllersListed:
    return ControllersListed(tuple(ControllerSeen(name, f"{name}:9091") for name in sorted(live)))


def views(live: set[str], pods: list[str]) -> dict[str, Ownership]:
    """What each that lives knows."""
    found = {name: Ownership(name) for name in live}
    for one in found.values():
        one.take(listed(live))
        one.take(PodsListed(tuple(seen(*each) for each in enumerate(pods))))
    return found


@given(some_live, owners)
def test_each_orphan_is_adopted_by_exactly_one_and_no_other_pod_by_anyone(
    live: set[str], pods: list[str]
) -> None:
    everyone = views(live, pods)
    taken = [pod.name for one in everyone.values() for pod in one.orphans()]
    orphans = [f"pod-{number}" for number, owner in enumerate(pods) if owner not in live]
    assert sorted(taken) == sorted(orphans)
    assert all(one.missed() is bool(orphans) for one in everyone.values())


@given(some_live, st.text(min_size=1, max_size=9))
def test_a_functions_home_is_the_controller_that_routers_ask_for_it(
    live: set[str], function: str
) -> None:
    everyone = views(live, [])
    asked = Balancer(f"{name}:9091" for name in live).pick_by_key(function, 0.0)
    homes = [name for name, one in everyone.items() if one.home(function) is None]
    assert [f"{name}:9091" for name in homes] == [asked]


@given(some_live, owners, st.integers(0, 50), st.integers(0, 50), st.integers(0, 500))
def test_the_shares_add_up_to_what_is_allowed_to_all(
    live: set[str], pods: list[str], size: int, most: int, cap: int
) -> None:
    limits = PoolLimits(size=size, most=most, pods=cap)
    shares = [one.share(limits) for one in views(live, []).values()]
    for whole, parts in (
        (size, [share.size for share in shares]),
        (most, [share.most for share in shares]),
    ):
        assert sum(parts) == whole or (whole < len(live) and set(parts) <= {0, 1})
        assert max(parts) - min(parts) <= 1
    assert sum(share.pods for share in shares) == cap
    for name, one in views(live, pods).items():
        others = sum(owner != name for owner in pods)
        assert one.share(limits).pods <= max(cap - others, 0)


def test_who_holds_more_than_its_part_leaves_what_is_idle_to_those_that_have_no_room() -> None:
    limits = PoolLimits(pods=6)
    full = views({"a", "b"}, ["a"] * 4 + ["b"] * 2)
    assert [full[name].share(limits).excess for name in "ab"] == [1, 0]
    assert full["b"].share(limits).pods == 2
    room = views({"a", "b"}, ["a"] * 4 + ["b"])
    assert [room[name].share(limits).excess for name in "ab"] == [0, 0]


@given(
    st.lists(
        st.one_of(
            st.builds(seen, st.integers(0, 5), st.sampled_from(NAMES)),
            st.builds(PodVanished, st.sampled_from([f"pod-{number}" for number in range(6)])),
            st.builds(listed, some_live),
        )
    )
)
def test_changes_one_by_one_and_a_new_list_come_to_the_same(news: list[PodSeen]) -> None:
    step_by_step = Ownership("a")
    pods: dict[str, PodSeen] = {}
    live = ControllersListed(())
    for one in news:
        step_by_step.take(one)
        match one:
            case PodSeen():
                pods[one.name] = one
            case PodVanished():
                pods.pop(one.name, None)
            case ControllersListed():
                live = one
    anew = Ownership("a")
    anew.take(live)
    anew.take(PodsListed(tuple(pods.values())))
    limits = PoolLimits()
    assert {pod.name for pod in step_by_step.orphans()} == {pod.name for pod in anew.orphans()}
    assert step_by_step.missed() == anew.missed()
    assert step_by_step.share(limits) == anew.share(limits)


def test_one_without_a_lease_of_its_own_adopts_nothing() -> None:
    one = Ownership("a")
    one.take(listed({"b"}))
    one.take(PodsListed((seen(1, "dead"),)))
    assert one.orphans() == []


def test_one_that_takes_no_calls_yet_is_nobodys_home() -> None:
    one = Ownership("a")
    one.take(ControllersListed((ControllerSeen("a", "a:1"), ControllerSeen("b", ""))))
    assert {one.home(f"f{number}") for number in range(20)} == {None}
