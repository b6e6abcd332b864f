"""The audit log: what stands in it, and what happens when it cannot be written."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sanfran_api.access.audit import STRANGERS, Audit, AuditFull, Entry, names_of
from sanfran_api.rest.admission import Audited
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send


def entry(user: str = "vik", *, changes: bool = True) -> Entry:
    made = Entry("updateFunction", via="rest", address="10.0.0.1", changes=changes)
    made.user = user
    made.admitted = bool(user)
    made.function = "hello"
    return made


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(one) for one in path.read_text().splitlines()]


async def test_each_change_is_one_line_and_each_operation_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    async with Audit(path, clock=lambda: 1_800_000_000.5) as audit:
        made = entry()
        made.changed = names_of({"timeout": 5, "env": {"KEY": "hidden"}}, code=True)
        await audit.check()
        await audit.write(made, "done")
        await audit.write(made, "broken off")
        await audit.write(entry(changes=False), "done")
        await audit.write(entry(changes=False), "refused", "forbidden")
    first, second = lines(path)
    assert first == {
        "time": "2027-01-15T08:00:00.500Z",
        "user": "vik",
        "from": "10.0.0.1",
        "via": "rest",
        "operation": "updateFunction",
        "function": "hello",
        "changed": ["code", "settings.timeout", "settings.env.KEY"],
        "result": "done",
    }
    assert second["result"] == "refused"
    assert path.stat().st_mode & 0o007 == 0


async def test_after_logrotate_it_goes_on_in_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    async with Audit(path) as audit:
        await audit.write(entry(), "done")
        path.rename(tmp_path / "audit.1")
        await audit.write(entry("ada"), "done")
    assert [one["user"] for one in lines(tmp_path / "audit.1")] == ["vik"]
    assert [one["user"] for one in lines(path)] == ["ada"]


async def test_strangers_cannot_fill_the_log(tmp_path: Path) -> None:
    async with Audit(tmp_path / "audit") as audit:
        for _ in range(STRANGERS.burst + 20):
            await audit.write(entry(""), "refused", "unauthenticated")
            await audit.write(entry(""), "failed", "too_many_failures")
            await audit.write(entry(""), "failed", "busy")
        await audit.write(entry("vik"), "refused", "forbidden")
    assert len(lines(tmp_path / "audit")) == STRANGERS.burst + 1


async def test_without_room_further_changes_are_refused_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit"
    real, full = os.write, False

    def write(file: int, content: bytes) -> int:
        if full and content.startswith(b'{"time"'):
            return real(file, content[:7])  # what a disk without room takes of a line
        return real(file, content)

    monkeypatch.setattr(os, "write", write)
    async with Audit(path) as audit:
        await audit.check()
        full = True
        await audit.write(entry("vik"), "done")
        for _ in range(3):
            with pytest.raises(AuditFull):
                await audit.check()
        full = False
        await audit.check()
        await audit.write(entry("ada"), "done")
    assert [one["user"] for one in lines(path)] == ["vik", "ada"]


async def test_callers_that_leave_while_lines_are_written_lose_and_repeat_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit"
    real, begun, go_on = os.write, threading.Event(), threading.Event()

    def write(file: int, content: bytes) -> int:
        if content.startswith(b'{"time"') and not begun.is_set():
            begun.set()
            assert go_on.wait(60)
        return real(file, content)

    monkeypatch.setattr(os, "write", write)
    async with Audit(path) as audit:
        told = [asyncio.create_task(audit.write(entry(user), "done")) for user in ("vik", "ada")]
        assert await asyncio.to_thread(begun.wait, 60)
        for one in told:  # the first is writing, the second waits for it
            one.cancel()
        told.append(asyncio.create_task(audit.write(entry("bob"), "done")))
        await asyncio.sleep(0.05)  # whoever does not wait has the time to spoil it
        go_on.set()
        await asyncio.gather(*told, return_exceptions=True)
    assert [one["user"] for one in lines(path)] == ["vik", "ada", "bob"]


async def test_on_a_disk_that_is_really_full_changes_are_refused() -> None:
    async with Audit(Path("/dev/full")) as audit:
        await audit.check()
        await audit.write(entry(), "done")
        with pytest.raises(AuditFull):
            await audit.check()


def test_a_line_is_in_the_file_before_the_process_can_be_killed(tmp_path: Path) -> None:
    code = """
import asyncio, os, sys
from pathlib import Path
from sanfran_api.access.audit import Audit, Entry
async def main():
    async with Audit(Path(sys.argv[1])) as audit:
        await audit.write(Entry("x", via="rest", address="", changes=True), "done")
        os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    path = tmp_path / "audit"
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert len(lines(path)) == 1


def test_names_of_what_changed_have_no_values_and_no_end() -> None:
    settings = {"env": {f"K{i}": "hidden" for i in range(1000)}}
    named = names_of(settings, code=False)
    assert len(named) == 100
    assert "hidden" not in json.dumps(named)
    assert names_of({"env": {}}, code=False) == ["settings.env"]


async def test_an_answer_that_begins_before_its_outcome_is_told_by_its_outcome(
    tmp_path: Path,
) -> None:
    """A build that streams what npm writes answers 200 long before it fails, or its client leaves."""

    async def answer(outcome: int | None) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            state = scope["state"]
            state["entry"] = entry()
            state["outcome"] = 0
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"{}", "more_body": True})
            if outcome is None:
                raise ClientDisconnect
            assert not (tmp_path / "audit").read_text().count("\n") > told
            state["outcome"] = outcome
            await send({"type": "http.response.body", "body": b"{}"})

        async def nothing(*_: object) -> Any:
            return {}

        told = len(lines(tmp_path / "audit"))
        try:
            await Audited(app, audit)({"type": "http", "state": {}}, nothing, nothing)
        except ClientDisconnect:
            pass

    async with Audit(tmp_path / "audit") as audit:
        for outcome in (422, None, 201):
            await answer(outcome)
    assert [one["result"] for one in lines(tmp_path / "audit")] == ["failed", "broken off", "done"]
