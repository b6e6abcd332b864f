"""One request from its head to its answer's last byte, over as many pods as it takes.

    routing ─► waiting ─► connecting ─► sent ─► answering ─► finished
       ▲                      │          │
       └──── another pod ─────┴──────────┘

A request goes to another pod only while no handler can have seen it, or, if its method is
idempotent, once more when the pod died before its first byte. See placed.py for how it finds one, and upload.py for its body.
"""

from __future__ import annotations

from bisect import bisect_left
from time import monotonic
from typing import TYPE_CHECKING, Final

from sanfran_router import errors
from sanfran_router.errors import Problem
from sanfran_router.function import Endpoint, Function
from sanfran_router.placed import Placed
from sanfran_router.request import Request
from sanfran_router.response import UNTIL_CLOSE, BadAnswer, ResponseHead
from sanfran_router.traffic import LATENCY_BOUNDS, Traffic
from sanfran_router.upload import Upload

if TYPE_CHECKING:
    from sanfran_router.client import ClientConnection
    from sanfran_router.plane import DataPlane
    from sanfran_router.upstream import UpstreamConnection

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE: Final = b"Connection: close\r\n"
KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"
MAX_INTERIM: Final = 100
"""Answers of 1xx to one request; a pod could say them without an end."""


class Exchange(Placed):
    """Made by `ClientConnection` for each request that names a function."""

    # Defaults are the class's, so that a usual request sets six attributes (bench/router_cpu.py).

    # Where it is
    answering = False
    until_close = False
    keep = False
    status = 0
    unbegun = False
    """Its pod still loads: it has not said yet that the request runs."""
    _gathering = False
    _interim = 0

    def __init__(
        self, plane: DataPlane, client: ClientConnection, request: Request, function: Function
    ) -> None:
        self.plane = plane
        self.client = client
        self.request = request
        self.function = function
        self.began = monotonic()
        function.traffic.requests += 1
        if request.length:
            self.body_done = False
            self._upload = Upload(self, plane.config.replay_bytes)

    # From the client's side.

    def start(self) -> None:
        """The head and perhaps a part of the body are there."""
        client, function = self.client, self.function
        deadline = self.began + (function.timeout or self.plane.config.function_timeout)
        client.deadline = deadline
        if deadline < client.looked_at:
            self.plane.wheel.set(client, deadline)
        if self.body is not None and self._too_large():
            self.fail(errors.TOO_LARGE)
        elif self._upload is not None and self._upload.gathers:
            self._gathering = True
        else:
            self._route()

    def on_body(self, piece: bytes, done: bool) -> None:
        """The next part of the body, framed for the pod."""
        self.body_done = done
        if self._upload is not None:
            self._upload.add(piece)
        if done and self._gathering:
            self._gathering = False
            self._route()

    def on_client_gone(self) -> None:
        """The client closed its connection: the pod's is closed at once."""
        if not self.finished:
            self._detach()
            self._end()

    def on_timeout(self) -> None:
        """The deadline given to the client's connection has passed."""
        if self._gathering:
            self.fail(errors.BODY_TIMEOUT)
        else:
            waits = self.endpoint is None or self.unbegun
            self.fail(errors.NO_CAPACITY if waits else errors.TIMEOUT)

    def fail(self, problem: Problem) -> None:
        """Ends the request with an error answer, or with a broken one when that has begun."""
        self._detach()
        if self.answering:
            self._end()
            self.client.break_off()
        else:
            self.status = problem.status
            self._end()
            self.client.answer(problem, self.request, complete=self.body_done)

    def send(self, upstream: UpstreamConnection) -> None:
        """Sends all that is there."""
        assert self.endpoint is not None
        self.upstream = upstream
        upstream.exchange = self
        if self.endpoint.early:
            self.unbegun = True
            upstream.await_begin()
        head, head_end = self.request.head, self.endpoint.head_end
        if self._upload is None:
            data = head + head_end
            upstream.sent += len(data)
            upstream.transport.write(data)
        else:
            self._upload.send(upstream, head, head_end)
        if self.client.write_paused:
            upstream.pause()

    def on_connect_failed(self, endpoint: Endpoint) -> None:
        """No connection: nothing was sent, so any request may go elsewhere."""
        self.function.drop(endpoint, fenced=False)
        if self.wants(endpoint):
            self._retry("connect")

    # From the pod's side.

    def on_begun(self) -> None:
        """The pod has loaded, and the request runs."""
        endpoint = self.endpoint
        assert endpoint is not None
        self.unbegun = False
        if endpoint.early:
            self.function.traffic.began_cold(monotonic() - endpoint.early)
            self.function.began(endpoint)
        if self._upload is not None:
            self._upload.on_taken()
        if self.function.waiting:
            self.plane.activator.dispatch(self.function)

    def on_interim(self, answer: ResponseHead) -> None:
        """A 1xx. The answer to our own Expect is for us.

        Raises:
            BadAnswer: there is no end of them.
        """
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise BadAnswer("too many interim answers")
        if answer.status == 100:
            if self._upload is not None:
                self._upload.on_taken()
            if self.request.expects_continue:
                self.relay(CONTINUE)
        elif not self.request.http10:
            self.relay(answer.head + b"\r\n")

    def on_fenced(self, upstream: UpstreamConnection) -> None:
        """The handler did not run: another pod must, whatever the method."""
        assert self.endpoint is not None
        # One that still loaded had no room for it, or no patience. Whether it serves is not for this refusal to say,
        # which may be read after the route that says so.
        if not self.unbegun:
            self.function.drop(self.endpoint, fenced=True)
        self._detach()
        if self._replayable:
            self._retry("fenced")
        else:
            self.fail(errors.BODY_GONE)

    def on_lost(self, upstream: UpstreamConnection, *, unseen: bool) -> None:
        """The pod's connection ended in the middle.

        Args:
            unseen: before any code of the function can have seen the request.
        """
        self.upstream = None
        if self.answering:
            self.fail(errors.POD_FAILED)
            return
        endpoint = self.endpoint
        assert endpoint is not None
        if not upstream.reused:
            self.function.drop(endpoint, fenced=False)
        if not self._replayable or upstream.heard:
            self.fail(errors.POD_FAILED)
        elif unseen:
            self._retry("stale")
        elif self._lost_at is not None or not self.request.idempotent:
            self.fail(errors.POD_FAILED)
        else:
            self._lost_at = endpoint
            self._retry("stale" if upstream.reused else "died")

    def on_bad_answer(self) -> None:
        """The pod sent what is no HTTP; its connection is closed already."""
        self.upstream = None
        self.fail(errors.BAD_ANSWER)

    def on_answer(self, answer: ResponseHead, body: bytes = b"") -> None:
        """The answer's head, and what of its body came with it."""
        request = self.request
        self.answering = True
        self.status = answer.status
        self.until_close = answer.length == UNTIL_CLOSE or (request.http10 and answer.length < 0)
        self.keep = (
            request.keep_alive
            and self.body_done
            and not self.until_close
            and not self.plane.closing
        )
        line = (KEEP_ALIVE if request.http10 else b"") if self.keep else CLOSE
        if self._upload is not None:
            self._upload.on_answer()
        self.relay(b"%b%b\r\n%b" % (answer.head, line, body))

    def relay(self, data: bytes) -> None:
        """Sends a part of the answer."""
        self.function.traffic.sent += len(data)
        self.client.transport.write(data)

    def on_whole_answer(self, status: int, answer: bytes, now: float) -> None:
        """A usual answer, all at once: `on_answer` and `finish` for the many.

        Args:
            answer: its bytes for the client; the connection has left already.
            now: monotonic seconds.
        """
        client, function, plane, endpoint = self.client, self.function, self.plane, self.endpoint
        assert endpoint is not None
        self.status = status
        if not self.request.keep_alive or not self.body_done or plane.closing:
            end = answer.index(b"\r\n\r\n") + 2
            self.on_answer(ResponseHead(status, answer[:end], 0), answer[end + 2 :])
            self.finish()
            return
        if self.request.http10:
            answer = answer.replace(b"\r\n\r\n", b"\r\n" + KEEP_ALIVE + b"\r\n", 1)
        client.transport.write(answer)
        self.upstream = self.endpoint = None
        self.finished = True
        if self._upload is not None:
            self._forget_upload()
        endpoint.in_flight -= 1
        function.in_flight -= 1
        function.setbacks = 0
        traffic = function.traffic
        traffic.sent += len(answer)
        self._count(traffic, now)
        client.next_request(now)
        if function.waiting:
            plane.activator.dispatch(function)

    def on_switch(self, answer: ResponseHead, data: bytes) -> None:
        """101: from here on, bytes."""
        self.answering = self.until_close = True
        self.status = 101
        self.client.tunnel()
        self.relay(
            b"%bConnection: Upgrade\r\nUpgrade: %b\r\n\r\n%b" % (answer.head, answer.switch, data)
        )

    def finish(self) -> None:
        """The answer is complete; its connection has left already."""
        self.upstream = None
        self.function.setbacks = 0
        self._end()
        self.client.on_finished(self)

    # Flow control.

    def pause_pod(self) -> None:
        """The client reads too slowly."""
        if self.upstream is not None:
            self.upstream.pause()

    def resume_pod(self) -> None:
        """The client has caught up."""
        if self.upstream is not None:
            self.upstream.resume()

    def tunnel(self, data: bytes) -> None:
        """Bytes from the client after a switch of protocols."""
        if self.upstream is not None:
            self.upstream.write(data)

    # Ends.

    def _forget_upload(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.stop_waiting()

    def _retry(self, cause: str) -> None:
        self.function.traffic.retried(cause)
        self.unbegun = False
        if self._upload is not None:
            self._upload.stop_waiting()
        self.client.pause_upload(False)  # the next pod may read faster
        self._release()
        self._again = True
        self._route()

    def _detach(self) -> None:
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.close()

    def _end(self) -> None:
        self.finished = True
        self._forget_upload()
        self._release()
        function = self.function
        if function.known:
            self._count(function.traffic, monotonic())
        else:  # nobody's, for all that is known: its own counters go with it
            self.plane.unrouted.requests += 1
            self._count(self.plane.unrouted, monotonic())
            self.plane.table.forget_unknown(function)

    def _count(self, traffic: Traffic, now: float) -> None:
        took = now - self.began
        traffic.by_class[self.status // 100] += 1
        traffic.latency_buckets[bisect_left(LATENCY_BOUNDS, took)] += 1
        traffic.latency_seconds += took
        if self.plane.access_log is not None:
            self.plane.access_log(self)
