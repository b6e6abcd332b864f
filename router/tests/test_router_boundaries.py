"""Where packets begin and end changes nothing: not what pods understand, not what clients get.

Streams of requests and answers are cut at every place and compared with the same streams whole.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.tests.fake_wires import Run, bytewise, cut, saying
from router.tests.hostile_answers import BROKEN, NO_ANSWER, head
from router.tests.hostile_requests import HIDDEN, REFUSED
from router.tests.odd_requests import PASSED
from router.tests.wire import Message, PodSide, answers_in, recorder

World = Any
Patch = pytest.MonkeyPatch

REQUESTS = (
    b"GET /fn/hello/1 HTTP/1.1\r\nHost: a\r\n\r\n"
    b"\r\nPOST /fn/hello/2 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab\r\n\r\ncde"
    b"POST /fn/hello/3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nTrailer: X-T\r\n\r\n"
    b'2;x="y z"\r\n\r\n\r\n0A\r\n0123456789\r\n0\r\nX-T: 1\r\nHost: b\r\n\r\n'
    b"HEAD /nowhere HTTP/1.1\r\nhost:a\r\nX-Request-Id: r\r\n\r\n"
    b"PUT /fn/hello/4 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok"
    b"GET http://b/fn/hello/5?q HTTP/1.1\r\nHost: a\r\nX-A:\r\nProxy-Connection: close\r\n\r\n"
    b"GET /fn/hello/6 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    b"HEAD /fn/hello/7 HTTP/1.0\r\nConnection: keep-alive, X-A\r\nX-A: b\r\n\r\n"
    b"POST /fn/hello/8 HTTP/1.1\r\nHost: a\r\nContent-Length: 200\r\n\r\n" + b"x" * 200
    + b"GET /fn/hello/9 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + HIDDEN
)  # fmt: skip


@pytest.mark.parametrize("lazy", [False, True], ids=["at once", "when all is said"])
def test_requests_may_be_cut_behind_each_byte(monkeypatch: Patch, lazy: bool) -> None:
    whole = Run(monkeypatch).feed([REQUESTS])
    assert [one.target for _, side in whole.pods for one in side.requests] == [
        b"/fn/hello/%d%b" % (number, b"?q" if number == 5 else b"") for number in range(1, 10)
    ]
    assert whole.client.closing
    for at in range(1, len(REQUESTS)):
        run = Run(monkeypatch, lazy=lazy).feed(cut(REQUESTS, [at]))
        assert run.outcome == whole.outcome, REQUESTS[:at][-40:]
    for size in (1, 2, 3, 7, 50):
        pieces = cut(REQUESTS, range(0, len(REQUESTS), size))
        assert Run(monkeypatch, lazy=lazy).feed(pieces).outcome == whole.outcome


STAY = [it.raw for it in PASSED.values() if not it.closes]
END = [
    *(raw for table in REFUSED.values() for raw in table.values() if len(raw) < 9000),
    *(it.raw for it in PASSED.values() if it.closes),
]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    stay=st.lists(st.sampled_from(STAY), max_size=4),
    end=st.sampled_from(END),
    cuts=st.lists(st.integers(1, 1500), max_size=12),
    lazy=st.booleans(),
)
def test_any_requests_may_be_cut_anywhere(
    stay: list[bytes], end: bytes, cuts: list[int], lazy: bool
) -> None:
    stream = b"".join([*stay, end, HIDDEN, HIDDEN])
    with pytest.MonkeyPatch.context() as patch:
        whole = Run(patch).feed([stream])
        assert Run(patch, lazy=lazy).feed(cut(stream, cuts)).outcome == whole.outcome


def test_each_hostile_and_each_odd_request_may_come_byte_by_byte(monkeypatch: Patch) -> None:
    for raw in [*STAY, *END]:
        stream = raw + HIDDEN
        whole = Run(monkeypatch).feed([stream])
        pieces = bytewise(stream) if len(raw) < 1000 else cut(stream, range(0, len(stream), 97))
        assert Run(monkeypatch).feed(pieces).outcome == whole.outcome, raw


ANSWERS = {
    b"/0": head(b"Content-Length: 12") + b"\r\n\r\nHTTP/1.1",
    b"/1": head(b"X-A:", b"content-length:2", b"Connection: keep-alive, X-Hop", b"X-Hop: 1")
    + b"ok",
    b"/2": head(b"Transfer-Encoding: chunked", b"Trailer: X-T")
    + b'2;x="y z"\r\n\r\n\r\n0A\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n',
    b"/3": head(b"Link: </a>", status=b"HTTP/1.1 103 Early Hints")
    + head(status=b"HTTP/1.1 102 Processing")
    + head(b"Content-Length: 1", status=b"HTTP/1.1 599 Own Words")
    + b"x",
    b"/4": head(status=b"HTTP/1.1 204 No Content"),
    b"/5": head(b"Content-Length: 9", b"ETag: x", status=b"HTTP/1.1 304 Not Modified"),
    b"/6": head(b"Content-Length: 0", b"Connection: Keep-Alive", status=b"HTTP/1.0 200"),
    b"/7": head(b"Content-Length: 0", b"X-Sanfran-A: 1", b"Set-Cookie: a", b"Set-Cookie: b"),
}


def test_answers_may_be_cut_behind_each_byte(monkeypatch: Patch) -> None:
    asked = b"".join(
        b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"/fn/hello" + one) for one in ANSWERS
    )
    pods = saying({b"/fn/hello" + target: raw for target, raw in ANSWERS.items()})
    whole = Run(monkeypatch, pods).feed([asked])
    statuses = [one.status for one in answers_in(whole.answers)]
    assert statuses == [200, 200, 200, 103, 102, 599, 204, 304, 200, 200]
    assert len(whole.pods) == 1
    for at in range(1, sum(map(len, ANSWERS.values()))):
        assert Run(monkeypatch, pods, cuts=[at]).feed([asked]).outcome == whole.outcome, at
    for old in (
        asked,
        asked.replace(b"HTTP/1.1\r\nHost: a", b"HTTP/1.0\r\nConnection: keep-alive"),
    ):
        whole = Run(monkeypatch, pods).feed([old])
        assert Run(monkeypatch, pods, cuts=None).feed([old]).outcome == whole.outcome


def test_what_is_no_answer_is_none_however_it_is_cut(monkeypatch: Patch) -> None:
    ask = b"GET /fn/hello/lie HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    for name, lie in NO_ANSWER.items():
        pods = saying({b"/fn/hello/lie": lie})
        every = [[at] for at in range(len(lie))]
        for cuts in ([], range(0, len(lie), 997)) if len(lie) > 500 else ([], None, *every):
            *_, last = answers_in(Run(monkeypatch, pods, cuts=cuts).feed([ask]).answers)
            assert (last.status, last.whole) == (502, True), name
    for name, lie in BROKEN.items():
        run = Run(monkeypatch, saying({b"/fn/hello/lie": lie}), cuts=None).feed([ask])
        assert [one.whole for one in answers_in(run.answers)] == [False], name
        assert run.client.closing


class TunnelPod(PodSide):
    """Agrees to a tunnel, and echoes in it."""

    def __init__(self) -> None:
        super().__init__(self._agree)
        self._open = False
        self.tunnelled = b""

    def _agree(self, message: Message) -> bytes:
        self._open = True
        return head(b"Connection: Upgrade", b"Upgrade: x", status=b"HTTP/1.1 101 S") + b"hello"

    def feed(self, data: bytes) -> bytes:
        if self._open:
            self.tunnelled += data
            return data.upper()
        return super().feed(data)


def test_tunnels_may_be_cut_behind_each_byte(monkeypatch: Patch) -> None:
    ask = b"GET /fn/hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    said = b"\0\xff\r\n\r\n" + HIDDEN
    for pieces in (
        [ask + said],
        bytewise(ask + said),
        *([ask + said[:i], said[i:]] for i in range(20)),
    ):
        for cuts in ((), None):
            run = Run(monkeypatch, TunnelPod, cuts=cuts).feed(pieces)
            _, _, after = run.answers.partition(b"\r\n\r\n")
            assert after == b"hello" + said.upper()
            ((_, pod),) = run.pods
            assert (len(pod.requests), pod.tunnelled) == (1, said)


async def test_real_sockets_agree(world: World, monkeypatch: Patch) -> None:
    async def through(pieces: list[bytes]) -> bytes:
        client = await world.client()
        for piece in pieces:
            if client.writer.is_closing():
                break
            client.send(piece)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        got = bytes(await client.closed())
        client.close()
        return got.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")

    async with recorder() as pod:
        world.controller.route(pod)
        await world.start_controller()
        await world.start_router(replay_bytes=100)
        stream = REQUESTS.removesuffix(HIDDEN)
        whole = await through([stream])
        assert whole == Run(monkeypatch).feed([stream]).answers
        assert await through(bytewise(stream)) == whole
        for at in range(1, len(stream), 7):
            assert await through(cut(stream, [at, at + 40])) == whole
