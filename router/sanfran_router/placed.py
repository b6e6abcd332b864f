"""How a request finds a pod: at once, in the function's queue, or after the api service has let its sender in.

`Exchange` is what comes of it. A place that a request has at an endpoint is given back by `_release`, whatever
became of it.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from sanfran_router import errors
from sanfran_router.authorization import (
    Answer,
    Question,
    forwarded_for,
    name_user,
    take_credentials,
)
from sanfran_router.errors import Problem
from sanfran_router.framing import ChunkedBody, LengthBody
from sanfran_router.function import Endpoint, Function
from sanfran_router.request import Request

if TYPE_CHECKING:
    from sanfran_router.client import ClientConnection
    from sanfran_router.plane import DataPlane
    from sanfran_router.upload import Upload
    from sanfran_router.upstream import UpstreamConnection

DYING: Final = 0.05
"""Seconds before a request that a pod has lost is sent to it once more. The sockets of a process that
is killed close one after the other: the one that listens may take a connection, to lose it as well,
some milliseconds after the kept ones broke."""


class Placed:
    """The part of an `Exchange` that looks for a pod, and knows which it has."""

    # Set by `Exchange`
    plane: DataPlane
    client: ClientConnection
    request: Request
    function: Function
    began: float

    # Where it is
    endpoint: Endpoint | None = None
    upstream: UpstreamConnection | None = None
    finished = False
    cold = False
    granted = False
    """Its sender may call a private function."""
    _queued = False

    # Its body
    body_done = True
    body: LengthBody | ChunkedBody | None = None
    _upload: Upload | None = None

    # What has gone wrong so far
    _again = False
    _lost_at: Endpoint | None = None

    if TYPE_CHECKING:  # what `Exchange` does

        def send(self, upstream: UpstreamConnection) -> None:
            """It has a pod, and a connection to it."""

        def on_connect_failed(self, endpoint: Endpoint) -> None:
            """It has no connection."""

        def fail(self, problem: Problem) -> None:
            """It gets no pod."""

    def _too_large(self) -> bool:
        limit = self.function.body_limit
        return bool(limit) and self.body is not None and not self.body.fits(limit)

    @property
    def _timeout(self) -> float:
        return self.function.timeout or self.plane.config.function_timeout

    def _route(self) -> None:
        endpoint = self.function.pick()
        if endpoint is not None:
            self.assign(endpoint)
            return
        if self.function.deleted:
            self.fail(errors.NOT_FOUND)
            return
        if self.function.private and not self.granted:
            self._authorize()
            return
        self.cold = self.cold or not self.function.endpoints
        problem = self.plane.activator.wait(self.function, self, again=self._again)
        if problem is not None:
            self.fail(problem)
            return
        self._wait()

    def _wait(self) -> None:
        self._queued = True
        if self._upload is not None:
            self._upload.queued()
        limit = monotonic() + self.plane.config.queue_timeout
        self.plane.wheel.set(self.client, min(limit, self.began + self._timeout))

    def reroute(self) -> None:
        """It waited for a pod of a function that has turned out to be private."""
        self._route()

    def _authorize(self) -> None:
        request, function = self.request, self.function
        question = Question(
            take_credentials(request), function.name, self._address, request.request_id
        )
        answer = self.plane.authorizer.judge(question, self)
        if answer is None:
            self._wait()
        else:
            self.judged(answer)

    @property
    def _address(self) -> str:
        """The client's: behind a proxy that is trusted, what that one saw."""
        if self.plane.config.trust_forwarded:
            told = forwarded_for(self.request)
            if told:
                return told
        return self.client.peer

    def judged(self, answer: Answer) -> None:
        """Whether its sender may call the function is known."""
        if self.finished:
            return
        if answer.problem is not None:
            self.fail(answer.problem)
            return
        self.granted = True
        name_user(self.request, answer.user)
        self._route()

    def assign(self, endpoint: Endpoint) -> None:
        """Takes a place at an endpoint; `_release` gives it back."""
        function = self.function
        if function.private and not self.granted:
            self._authorize()
            return
        if self.body is not None and self._too_large():  # known only now, if it was cold
            self.fail(errors.TOO_LARGE)
            return
        self.endpoint = endpoint
        endpoint.in_flight += 1
        function.in_flight = running = function.in_flight + 1
        if running > function.traffic.peak:
            function.traffic.peak = running
        if running == 1:
            self.plane.table.busy.add(function)
        if self._queued:
            self._queued = False
            self.plane.wheel.set(self.client, self.began + self._timeout)
        idle = endpoint.idle
        if self._lost_at is None:  # else a fresh connection: not one that may be closed again
            while idle:
                connection = idle.pop()
                if not connection.transport.is_closing():
                    self.send(connection)
                    return
        self.plane.connect(endpoint, self, pause=DYING if endpoint is self._lost_at else 0.0)

    def refuse(self, problem: Problem) -> None:
        """No pod: called by the queue, which has let go of it."""
        self.fail(problem)

    def wants(self, endpoint: Endpoint) -> bool:
        """It still waits for a connection to this endpoint."""
        return self.endpoint is endpoint and self.upstream is None and not self.finished

    @property
    def goes_early(self) -> bool:
        """It may be sent to a pod that still loads: all of it is there, and once."""
        if self._again or not self.body_done or self.request.expects_continue:
            return False
        return not self.request.upgrade and self._replayable

    @property
    def held(self) -> int:
        """Bytes of its body that are kept while it waits."""
        return self._upload.size if self._upload is not None else 0

    @property
    def _replayable(self) -> bool:
        return self._upload is None or self._upload.replayable

    def _release(self) -> None:
        """Gives the place back, to the next that waits."""
        endpoint, function = self.endpoint, self.function
        if endpoint is None:
            self.plane.activator.leave(function, self)
            return
        self.endpoint = None
        endpoint.in_flight -= 1
        function.in_flight -= 1
        if function.waiting:
            self.plane.activator.dispatch(function)
