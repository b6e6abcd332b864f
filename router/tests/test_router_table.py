"""The table: what several controllers say together."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sanfran_router.function import Endpoint, EndpointFacts, Function, RouteFacts
from sanfran_router.table import Table


def facts(sequence: int, *pods: str, controller: str = "c1", **more: Any) -> RouteFacts:
    endpoints = tuple(EndpointFacts(address=pod, activation_id=f"id-{pod}") for pod in pods)
    return RouteFacts(
        name=more.pop("name", "hello"),
        controller=controller,
        sequence=sequence,
        endpoints=endpoints,
        **more,
    )


def pods(function: Function) -> set[str]:
    return {one.address for one in function.endpoints}


def the(function: Function, address: str) -> Endpoint:
    return next(one for one in function.endpoints if one.address == address)


def test_endpoints_of_all_controllers_at_the_highest_version_are_one_set() -> None:
    table = Table()
    table.apply(facts(1, "a", version=1))
    function = table.apply(facts(7, "b", controller="c2", version=1))
    assert pods(function) == {"a", "b"}
    table.apply(facts(8, "c", controller="c2", version=2, timeout=3.0, concurrency=5, body_limit=9))
    assert pods(function) == {"c"}
    assert (function.version, function.timeout, function.concurrency) == (2, 3.0, 5)
    assert function.body_limit == 9


def test_a_new_version_without_pods_ends_the_use_of_the_old_one() -> None:
    table = Table()
    function = table.apply(facts(1, "a", version=1))
    table.apply(facts(2, controller="c2", version=2))
    assert pods(function) == set()


def test_an_older_sequence_of_the_same_controller_changes_nothing() -> None:
    table = Table()
    function = table.apply(facts(5, "a"))
    table.apply(facts(4, "b"))
    assert pods(function) == {"a"}


def test_an_endpoint_told_again_keeps_its_requests_and_connections() -> None:
    table = Table()
    function = table.apply(facts(1, "a"))
    endpoint = the(function, "a")
    endpoint.in_flight = 3
    table.apply(facts(2, "a", "b"))
    assert the(function, "a") is endpoint
    table.apply(facts(3, "b"))
    assert endpoint.gone


def test_an_address_with_a_new_activation_is_another_endpoint() -> None:
    table = Table()
    function = table.apply(facts(1, "a"))
    before = the(function, "a")
    again = EndpointFacts(address="a", activation_id="new")
    table.apply(RouteFacts(name="hello", controller="c1", sequence=2, endpoints=(again,)))
    assert the(function, "a") is not before
    assert before.gone


def test_the_endpoint_with_the_fewest_requests_is_picked_up_to_the_concurrency() -> None:
    function = Table().apply(facts(1, "a", "b", concurrency=2))
    picked = []
    while (endpoint := function.pick()) is not None:
        endpoint.in_flight += 1
        picked.append(endpoint.address)
    assert sorted(picked) == ["a", "a", "b", "b"]
    assert picked[:2] in (["a", "b"], ["b", "a"])


def test_a_dropped_endpoint_comes_back_with_a_newer_route_only() -> None:
    table = Table()
    for sequence, fenced in ((10, True), (20, False)):
        function = table.apply(facts(sequence, "a", "b"))
        function.drop(the(function, "a"), fenced=fenced)
        assert pods(function) == {"b"}
        table.apply(facts(sequence, "a", "b"))
        table.apply(facts(sequence, "b", controller="c2"))
        assert pods(function) == {"b"}
        table.apply(facts(sequence + 1, "a", "b"))
        assert pods(function) == {"a", "b"}


def test_an_unreachable_endpoint_comes_back_when_a_controller_answers_with_it() -> None:
    table = Table()
    function = table.apply(facts(1, "a", "b"))
    function.drop(the(function, "a"), fenced=False)
    function.drop(the(function, "b"), fenced=True)
    table.apply(facts(1, "a", "b"), answer=True)
    assert pods(function) == {"a"}


def test_a_deletion_takes_the_endpoints_of_every_controller_until_something_newer() -> None:
    table = Table()
    function = table.apply(facts(1, "a"))
    table.apply(facts(1, "b", controller="c2", version=5))
    table.apply(facts(2, deleted=True))
    assert function.deleted
    assert pods(function) == set()
    table.apply(facts(1, "b", controller="c2", version=5))
    assert function.deleted
    table.apply(facts(2, "n", controller="c2", version=1))
    assert not function.deleted
    assert pods(function) == {"n"}


def test_what_a_controller_that_hangs_told_of_a_deleted_function_outranks_no_new_one() -> None:
    table = Table()
    function = table.apply(facts(1, "a", version=7))
    table.apply(facts(1, deleted=True, controller="c2"))
    table.apply(facts(2, "n", controller="c2", version=1))
    assert pods(function) == {"n"}
    assert function.version == 1


def test_a_resync_replaces_what_the_controller_told_before() -> None:
    table = Table()
    first = table.begin_sync("addr")
    first.route(facts(1, "a"))
    first.route(facts(2, "x", name="other"))
    first.synced("c1")
    again = table.begin_sync("addr")
    again.route(facts(3, "b"))
    assert pods(table.functions["other"]) == {"x"}
    changed = again.synced("c1")
    assert [one.name for one in changed] == ["other"]
    assert "other" not in table.functions
    assert pods(table.functions["hello"]) == {"b"}


def test_a_route_told_in_an_answer_after_the_snapshot_survives_the_resync() -> None:
    table = Table()
    sync = table.begin_sync("addr")
    sync.route(facts(3, "a"))
    table.apply(facts(4, "x", name="other"), answer=True)
    sync.synced("c1")
    assert pods(table.functions["other"]) == {"x"}


def test_a_restarted_controller_replaces_its_former_self() -> None:
    table = Table()
    sync = table.begin_sync("addr")
    sync.route(facts(100, "a"))
    sync.synced("c1")
    again = table.begin_sync("addr")
    function = again.route(facts(1, "a", "b", controller="c1-restarted"))
    endpoint = the(function, "a")
    again.synced("c1-restarted")
    assert pods(function) == {"a", "b"}
    assert the(function, "a") is endpoint
    table.apply(facts(101, "z"))
    third = table.begin_sync("addr")
    third.synced("c1-restarted")
    assert pods(function) == {"z"}


def test_an_address_that_is_gone_for_good_takes_its_routes_along() -> None:
    table = Table()
    for source, controller, pod in (("one", "c1", "a"), ("two", "c2", "b")):
        sync = table.begin_sync(source)
        sync.route(facts(1, pod, controller=controller))
        sync.synced(controller)
    table.forget_source("one")
    assert pods(table.functions["hello"]) == {"b"}
    table.forget_source("two")
    assert table.functions == {}


def test_unknown_names_leave_nothing_behind() -> None:
    table = Table()
    function = table.function("ghost")
    function.in_flight = 1
    table.forget_unknown(function)
    assert "ghost" in table.functions
    function.in_flight = 0
    table.forget_unknown(function)
    assert table.functions == {}


ROUTES = st.tuples(
    st.sampled_from(["c1", "c2"]),
    st.integers(1, 6),
    st.integers(1, 3),
    st.sets(st.sampled_from("abc")),
)


@given(st.lists(ROUTES, max_size=12), st.randoms(use_true_random=False))
def test_the_order_in_which_controllers_are_heard_does_not_matter(
    told: list[tuple[str, int, int, set[str]]], shuffle: Any
) -> None:
    # One controller does not tell two things under one sequence.
    unique = {(who, sequence): (version, on) for who, sequence, version, on in told}

    def end(order: list[tuple[str, int]]) -> set[str]:
        table = Table()
        for who, sequence in order:
            version, on = unique[who, sequence]
            table.apply(facts(sequence, *sorted(on), controller=who, version=version))
        return pods(table.functions["hello"]) if order else set()

    order = list(unique)
    expected = end(sorted(order))
    shuffle.shuffle(order)
    assert end(order) == expected
