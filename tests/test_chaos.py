"""The short form of `make chaos`, and proof that its account sees what may not happen."""

from pathlib import Path

import pytest

from tests.chaos.changes import Change
from tests.chaos.client import Connection, Failed
from tests.chaos.faults import Damage
from tests.chaos.functions import Expected, Life
from tests.chaos.leaks import Census
from tests.chaos.ledger import Ledger
from tests.chaos.load import Call, Kind
from tests.chaos.run import run
from tests.peers import Reader, Writer, pod

CHOSEN = (
    "update",
    "delete and create",
    "kill node",
    "kill pod host",
    "kill controller",
    "kill router worker",
    "SIGHUP router",
    "hang node",
)


@pytest.mark.timeout(240)
def test_everything_that_may_go_wrong_costs_no_more_than_it_may(tmp_path: Path) -> None:
    # The bound is for a machine that does much else; `make chaos` has the promised one.
    ledger = Ledger(seed=5, bound=20.0)
    run(tmp_path, ledger, seconds=12.0, faults=CHOSEN, controllers=1)
    assert ledger.violations == {}, ledger.text()
    assert ledger.counts["answered"] > 500


GET = Kind("quick", "quick")


def call(outcome: str, wrong: str = "") -> Call:
    return Call(GET, "quick", "chaos-1", 1.0, 2.0, outcome, wrong, 4711, 1.0)


def account(*calls: Call, damage: Damage | None = None) -> Ledger:
    """The ledger of one fault that cost these calls."""
    ledger = Ledger(seed=1, bound=5.0)
    window = ledger.open("fault")
    for one in calls:
        ledger.take(window, one)
    window.damage = damage or Damage(1.0)
    window.recovery = 1.0
    ledger.close(window)
    return ledger


def test_a_failure_that_nothing_excuses_is_a_violation_and_an_excused_one_is_counted() -> None:
    assert account(call("200")).violations == {}
    assert account(call("502 pod_failed")).violations
    excused = account(call("502 pod_failed"), damage=Damage(1.0, lambda _: "it died"))
    assert excused.violations == {}
    assert excused.rows["fault"].allowed.total() == 1


def test_nothing_excuses_a_wrong_answer() -> None:
    wrong = call("200", "answered by version 1 after 2 was acknowledged")
    assert account(wrong, damage=Damage(1.0, lambda _: "it died")).violations


def test_a_change_that_failed_and_a_slow_recovery_are_violations() -> None:
    ledger = Ledger(seed=1, bound=5.0)
    window = ledger.open("fault")
    window.damage, window.recovery = Damage(1.0, changes=("stored",)), 5.1
    window.changes += [Change("PUT f", 1.0, 2.0, one) for one in ("stored", "ReadError")]
    ledger.close(window)
    first, second = ledger.violations["fault"]
    assert "ReadError" in first
    assert second == "recovered after 5.10 s"


def answer(**other: object) -> bytes:
    said = {"function": "f", "stamp": 2, "id": "i", "body": "", "pid": 1} | other
    return str(said).replace("'", '"').encode()


@pytest.mark.parametrize(
    ("status", "body", "what"),
    [
        (200, answer(), ""),
        (200, answer(stamp=3), ""),
        (200, answer(stamp=1), "after 2 was acknowledged"),
        (200, answer(stamp=4), "nobody has sent"),
        (200, answer(function="g"), "answered by g"),
        (200, answer(id="j"), "another request"),
        (200, answer(body="x"), "another body"),
        (200, b"{", "another body"),
        (404, b"", "404 though"),
        (502, b"", ""),
    ],
)
def test_an_answer_is_right_only_from_this_function_this_request_and_a_version_that_may_answer(
    status: int, body: bytes, what: str
) -> None:
    life = Life()
    life.become("there")
    life.acknowledged = 2
    expected = Expected.of("f", life)
    life.begun = life.acknowledged = 3  # an update that began and ended meanwhile
    found = expected.wrong(status, body, "i", "")
    assert what in found
    assert bool(found) == bool(what)


def test_a_deleted_function_may_answer_only_404_until_it_is_made_again() -> None:
    life = Life()
    life.begun = life.acknowledged = 2
    life.become("leaving")
    while_leaving = Expected.of("f", life)
    assert (
        while_leaving.wrong(200, answer(), "i", "") == while_leaving.wrong(404, b"", "i", "") == ""
    )
    life.become("gone")
    gone = Expected.of("f", life)
    assert gone.wrong(404, b"", "i", "") == ""
    assert "delete had returned" in gone.wrong(200, answer(), "i", "")
    life.become("coming")
    assert gone.wrong(200, answer(), "i", "") == ""


def test_what_is_left_at_the_end_is_told() -> None:
    def census(**other: object) -> Census:
        facts = {"files": {"api": 20}, "nodes": 3, "pods": {"generic": 3}, "hosted": 3} | other
        return Census(**facts)  # type: ignore[arg-type]

    before = census()
    assert list(census(pods={"generic": 3, "active": 0}).leaks(before)) == []
    for other in (
        {"files": {"api": 40}},
        {"nodes": 4},
        {"pods": {"generic": 2, "active": 1}},
        {"hosted": 4},
        {"in_routers": 1},
        {"strangers": ["1 sleep"]},
        {"serving": ["quick"]},
    ):
        assert len(list(census(**other).leaks(before))) == 1, other


async def test_the_client_tells_each_way_to_fail_and_repeats_nothing() -> None:
    requests = 0

    async def serve(reader: Reader, writer: Writer) -> None:
        nonlocal requests
        while head := await reader.readuntil(b"\r\n\r\n"):
            requests += 1
            if b"/close" in head:
                return
            if b"/half" in head:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with pod(serve) as address:
        host, _, port = address.rpartition(":")
        connection = Connection(host, int(port))
        assert (await connection.request("GET", "/", {})).body == b"ok"
        kept = connection.local_port
        assert (await connection.request("GET", "/", {})).outcome == "200"
        assert connection.local_port == kept
        with pytest.raises(Failed, match="broken before the answer"):
            await connection.request("GET", "/close", {})
        with pytest.raises(Failed, match="broken within the answer"):
            await connection.request("GET", "/half", {})
        assert requests == 4
    with pytest.raises(Failed, match="refused"):
        await connection.request("GET", "/", {})
