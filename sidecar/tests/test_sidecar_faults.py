"""Processes that do not behave, shown by a double of the runtime."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from grpclib import GRPCError, Status
from sanfran_proto.sanfran import v1 as pb
from sanfran_sidecar.control import ControlSocket
from sanfran_sidecar.logs import MAX_TEXT, MAX_TOTAL, ActivationLog

if TYPE_CHECKING:
    from conftest import Bench


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("never ready", "the process was not ready after 0.5 s"),
        ("half a line", "the process was not ready after 0.5 s"),
        ("exits before ready", "the process exited with code 7 before it was ready"),
        ("garbage", "what came over the control socket is no message"),
        ("unknown message", "a control message of no known form: {'type': 'coffee'}"),
        ("endless line", "a message over the control socket has no end"),
    ],
)
async def test_a_process_that_does_not_become_ready_is_no_pod(
    bench: Bench, fault: str, reason: str
) -> None:
    stub, _ = await bench.pod(fault=fault, start_timeout=0.5)
    state = await bench.phase(stub, pb.PodPhase.GONE)
    assert reason in state.reason


async def test_a_process_that_cannot_be_started_is_no_pod(bench: Bench) -> None:
    stub, pod = await bench.pod(fault="never ready")
    pod._starter._launcher._command[0] = "/no/such/node"  # type: ignore[attr-defined]  # the launcher's
    assert "could not be started" in (await bench.phase(stub, pb.PodPhase.GONE)).reason


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("never loaded", "still loading after 0.3 s"),
        ("exits during load", "exited with code 3 while the module was loading"),
        ("garbage during load", "is no message"),
        ("closes during load", "its control connection ended"),
    ],
)
async def test_a_process_that_fails_to_load_is_a_failed_load(
    bench: Bench, fault: str, message: str
) -> None:
    stub, _ = await bench.generic(fault=fault, load_timeout=0.3)
    answer = await stub.activate(bench.order("a1", bench.api.function()))
    assert answer.failed is not None
    assert message in answer.failed.message
    await bench.phase(stub, pb.PodPhase.GONE)


async def test_a_process_that_does_not_drain_is_given_up_after_the_grace(bench: Bench) -> None:
    stub, _ = await bench.generic(fault="never drained")
    await stub.activate(bench.order("a1", bench.api.function()))
    state = await stub.recycle(pb.RecycleRequest(activation_id="a1", grace_ms=100))
    assert state.phase is pb.PodPhase.GENERIC


async def test_a_pod_deleted_while_it_starts_leaves_nothing(bench: Bench) -> None:
    stub, pod = await bench.pod(fault="never ready")
    while not bench.left():  # noqa: ASYNC110  # a few turns of the loop
        await asyncio.sleep(0)
    pod.end("deleted")
    await bench.running[0]
    assert bench.left() == []
    assert (await stub.get_state(pb.GetStateRequest())).reason == "deleted"
    with pytest.raises(GRPCError) as refused:
        await stub.activate(bench.order("a1", bench.api.function()))
    assert refused.value.status is Status.FAILED_PRECONDITION


async def test_a_pod_whose_owner_is_cancelled_twice_leaves_nothing(bench: Bench) -> None:
    await bench.generic()
    bench.running[0].cancel()
    await asyncio.sleep(0)
    bench.running[0].cancel()
    await asyncio.wait({bench.running[0]})
    assert bench.left() == []


async def test_only_the_expected_process_may_connect_and_only_once(short_path: Path) -> None:
    messages: list[object] = []
    ended = asyncio.Event()
    control = ControlSocket(messages.append, lambda why: ended.set())
    await control.listen(short_path / "control", 0o600)
    control.expect(1)
    reader, writer = await asyncio.open_unix_connection(short_path / "control")
    assert await reader.read() == b""  # refused unheard
    writer.close()
    control.expect(None)
    reader, writer = await asyncio.open_unix_connection(short_path / "control")
    writer.write(b'{"type":"ready"}\n')
    while not messages:  # noqa: ASYNC110  # a few turns of the loop
        await asyncio.sleep(0)
    assert not (short_path / "control").exists()
    with socket.socket(socket.AF_UNIX) as late, pytest.raises(FileNotFoundError):
        late.connect(str(short_path / "control"))
    writer.close()
    await ended.wait()


async def test_a_slow_reader_of_logs_is_told_what_it_missed() -> None:
    log = ActivationLog("pod-1", 1, max_lines=3)
    log.append("info", "first")
    lines = log.read(follow=True, tail=0)
    assert (await anext(lines)).text == "first"
    for n in range(10):
        log.append("info", str(n))
    log.close()
    assert [line.text async for line in lines] == ["[7 lines dropped]", "7", "8", "9"]


async def test_logs_are_bounded_in_bytes_too() -> None:
    log = ActivationLog("pod-1", 1, max_lines=10**6)
    for _ in range(1000):
        log.append("info", "x" * 100_000)
    texts = [line.text async for line in log.read(follow=False, tail=0)]
    assert sum(map(len, texts)) <= MAX_TOTAL
    assert max(map(len, texts)) == MAX_TEXT + 1
