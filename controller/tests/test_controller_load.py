"""What routers report, as the controller adds it up."""

from __future__ import annotations

from sanfran_controller.load import EXPIRE, Loads
from sanfran_proto.sanfran import v1 as pb


def part(number: int, *names: str, more: bool, router: str = "r") -> pb.LoadReport:
    functions = [pb.FunctionLoad(name=name, in_flight=1) for name in names]
    return pb.LoadReport(router=router, functions=functions, part=number, more=more)


def test_a_report_in_parts_counts_when_it_is_whole() -> None:
    loads = Loads()
    loads.report(part(0, "a", "b", more=False), 0.0)
    loads.report(part(0, "b", more=True), 1.0)
    assert [loads.demand(name) for name in "abc"] == [1, 1, 0], "still the former one"
    loads.report(part(1, "c", more=False), 1.0)
    assert [loads.demand(name) for name in "abc"] == [0, 1, 1]


def test_a_report_that_broke_off_leaves_nothing_in_the_next() -> None:
    loads = Loads()
    loads.report(part(0, "a", more=True), 0.0)
    loads.report(part(0, "b", more=True), 1.0)
    loads.report(part(1, "c", more=False), 1.0)
    assert [loads.demand(name) for name in "abc"] == [0, 1, 1]


def test_a_router_that_falls_silent_between_two_parts_is_forgotten() -> None:
    loads = Loads()
    loads.report(part(0, "a", more=False), 0.0)
    loads.report(part(0, "b", more=True), 0.0)
    assert loads.expire(EXPIRE) == ["r"]
    loads.report(part(1, "c", more=False), EXPIRE)
    assert [loads.demand(name) for name in "abc"] == [0, 0, 1]


def test_a_router_that_leaves_takes_its_load_along() -> None:
    loads = Loads()
    loads.report(part(0, "a", more=False), 0.0)
    loads.report(pb.LoadReport(router="r", leaving=True), 1.0)
    assert loads.demand("a") == 0
