"""What function code may try against its sidecar, on real Node processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from grpclib import GRPCError, Status
from sanfran_proto.sanfran import v1 as pb
from sanfran_sidecar.runtime import MAX_MESSAGE

if TYPE_CHECKING:
    from conftest import Bench

CONTROL = """
const control = process._getActiveHandles().find((one) => one.constructor.name === 'Socket' && !one.remoteAddress)
"""
"""Finds the control socket, as any code in the process can."""


async def test_text_that_is_no_unicode_is_shown_with_its_gaps(bench: Bench) -> None:
    stub, _ = await bench.generic()
    source = "console.log('half \\ud83d'); throw new Error('a \\ud83d')"
    answer = await stub.activate(bench.order("a1", bench.api.function(source)))
    assert answer.failed is not None
    assert answer.failed.message == "a ?"
    assert (await stub.get_state(pb.GetStateRequest())).reason == "load failed: a ?"
    first = await anext(aiter(stub.stream_logs(pb.PodLogsRequest())))
    assert first.text == "half ?"


@pytest.mark.parametrize("size", [100_000, 3_000_000])
async def test_the_longest_error_reaches_every_caller(bench: Bench, size: int) -> None:
    stub, _ = await bench.generic()
    function = bench.api.function(f"throw new Error('m'.repeat({size}))")
    answer = await stub.activate(bench.order("a1", function))
    assert answer.failed is not None
    assert answer.failed.message == "m" * MAX_MESSAGE
    async with asyncio.timeout(5):
        with pytest.raises(GRPCError, match="load failed: m") as refused:
            await stub.recycle(pb.RecycleRequest(activation_id="a1"))
    assert refused.value.status is Status.ABORTED


@pytest.mark.parametrize(
    "message",
    [
        '{"type":"draining","in_flight":0}',  # nobody has asked
        '{"type":"loaded","ms":NaN}',
        '{"type":"loaded","ms":1' + "0" * 400 + "}",
        '{"type":"log","time_ms":1e99,"level":"info","text":""}',
        '{"type":' + "[" * 900 + "]" * 900 + "}",
    ],
)
async def test_a_forged_message_costs_its_function_the_pod(bench: Bench, message: str) -> None:
    stub, _ = await bench.generic()
    source = (
        CONTROL + f"control.write({message!r} + '\\n'); module.exports = () => {{}}; for (;;) {{}}"
    )
    answer = await stub.activate(bench.order("a1", bench.api.function(source)))
    assert answer.failed is not None
    assert "control message of no known form" in answer.failed.message


async def test_folders_nested_deeper_than_any_path_are_wiped(bench: Bench) -> None:
    stub, _ = await bench.generic()
    source = """
    const fs = require('fs')
    process.chdir(require('os').tmpdir())
    for (let i = 0; i < 3000; i++) { fs.mkdirSync('d'); process.chdir('d') }
    fs.writeFileSync('bottom', '')
    module.exports = () => {}
    """
    await stub.activate(bench.order("a1", bench.api.function(source)))
    state = await stub.recycle(pb.RecycleRequest(activation_id="a1"))
    assert state.phase is pb.PodPhase.GENERIC
    assert len(bench.left()) == 1


@pytest.mark.parametrize(
    "flood",
    [
        "require('child_process').spawn('yes', [''], { stdio: 'inherit' })",
        "setInterval(() => { for (let i = 0; i < 1000; i++) console.log('x'.repeat(200)) }, 1)",
        CONTROL
        + """const line = JSON.stringify({ type: 'log', time_ms: 1, level: 'info', text: '' }) + '\\n'
        const go = () => control.write(line.repeat(10_000), go)
        go()""",
    ],
)
async def test_endless_output_holds_up_nothing(bench: Bench, flood: str) -> None:
    stub, _ = await bench.generic()
    source = f"{flood}; module.exports = (req, res) => res.send('fine')"
    answer = await stub.activate(bench.order("a1", bench.api.function(source)))
    assert answer.loaded is not None
    lines = stub.stream_logs(pb.PodLogsRequest(follow=True))
    async with asyncio.timeout(10):
        while "dropped" not in (await anext(lines)).text:
            pass
        assert await bench.get(answer.loaded.address, "/fn/hello", "a1") == (200, "fine")
        state = await stub.recycle(pb.RecycleRequest(activation_id="a1"))
    assert state.phase is pb.PodPhase.GENERIC
