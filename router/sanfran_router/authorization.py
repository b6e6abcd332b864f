"""Who may call private functions: the api service is asked, and its answers are kept for seconds.

A request for a public function meets nothing of this but one look at its function. For a private one the
credentials are taken out of the head, so that no function's code ever sees what others log in with; the
answer to a question that was asked a moment ago is the answer, and the same question is asked once, however
many wait for it.
"""

from __future__ import annotations

import json
import os
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from hashlib import blake2b
from time import monotonic
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote_from_bytes

from grpclib import GRPCError
from sanfran_common.rpc.client import RpcClient
from sanfran_common.telemetry.logs import get_logger
from sanfran_proto.sanfran import v1 as pb

from sanfran_router.errors import NO_AUTHORIZATION, QUEUE_FULL, Problem
from sanfran_router.request import Request

log = get_logger("authorization")

KEPT = 10_000
"""Answers of each kind; the longest unused go first."""
ASKED_AT_ONCE = 500
"""Questions on their way."""
ANSWER_SECONDS = 5.0
LONGEST_KEPT = 60.0
"""Seconds, whatever the api service says."""
_AUTHORIZATION = re.compile(rb"(?<=\r\n)authorization: ([^\r\n]*)\r\n", re.IGNORECASE)
_FORWARDED = re.compile(rb"\r\nX-Forwarded-For: ([^\r\n]*)")
_UNSAFE = re.compile(r"[^\x20-\x7e]")


class Answer(NamedTuple):
    """What the api service said.

    Args:
        problem: they may not, and this is what they get; None: they may.
        user: who they are, as a header can have it.
        until: monotonic seconds.
    """

    problem: Problem | None
    user: bytes = b""
    until: float = 0.0


class Question(NamedTuple):
    """Whether who sent these credentials may call this function.

    Args:
        address: the client's.
    """

    credentials: bytes
    function: str
    address: str
    request_id: bytes


class Asker(Protocol):
    """A request that waits for an answer."""

    def judged(self, answer: Answer) -> None: ...


AskApi = Callable[[Question], Awaitable[Answer]]


class Authorizer:
    """Answers from memory, or asks.

    Args:
        ask: asks the api service; does not raise.
        spawn: starts a task that the router owns.
        most_waiting: requests that wait for answers.
    """

    def __init__(
        self,
        ask: AskApi,
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
        *,
        most_waiting: int,
    ) -> None:
        self._ask = ask
        self._spawn = spawn
        self._most_waiting = most_waiting
        self._key = os.urandom(32)
        # Apart, so that wrong credentials, of which anybody can send many, do not drive out right ones.
        self._yes: OrderedDict[bytes, Answer] = OrderedDict()
        self._no: OrderedDict[bytes, Answer] = OrderedDict()
        self._asked: dict[bytes, list[Asker]] = {}
        self.waiting = 0

    def judge(self, question: Question, asker: Asker) -> Answer | None:
        """The answer, if it is known; None: `judged` is called with it later."""
        key = blake2b(
            question.function.encode() + b"\0" + question.credentials, key=self._key, digest_size=16
        ).digest()
        for kept in (self._yes, self._no):
            answer = kept.get(key)
            if answer is not None:
                if answer.until > monotonic():
                    kept.move_to_end(key)
                    return answer
                del kept[key]
        waiting = self._asked.get(key)
        if self.waiting >= self._most_waiting:
            return Answer(QUEUE_FULL)
        if waiting is None:
            if len(self._asked) >= ASKED_AT_ONCE:
                return Answer(QUEUE_FULL)
            waiting = self._asked[key] = []
            self._spawn(self._find_out(key, question), f"authorize {question.function}")
        waiting.append(asker)
        self.waiting += 1
        return None

    async def _find_out(self, key: bytes, question: Question) -> None:
        answer = Answer(NO_AUTHORIZATION)
        try:
            answer = await self._ask(question)
        finally:
            # Also when the router stops: whoever waits is told, and nobody is let in.
            waiting = self._asked.pop(key)
            self.waiting -= len(waiting)
            if answer.until > monotonic():
                kept = self._yes if answer.problem is None else self._no
                kept[key] = answer
                if len(kept) > KEPT:
                    kept.popitem(last=False)
            for asker in waiting:
                asker.judged(answer)


def api_asker(client: RpcClient | None) -> AskApi:
    """Asks the api service.

    Args:
        client: None: there is none, so nobody can be let in.
    """
    if client is None:
        return _nobody_to_ask
    stub = pb.ApiStub(client.channel)

    async def ask(question: Question) -> Answer:
        request = pb.AuthorizeRequest(
            authorization=question.credentials.decode("latin-1"),
            function=question.function,
            address=question.address,
            request_id=question.request_id.decode("latin-1"),
        )
        try:
            told = await stub.authorize(request, timeout=ANSWER_SECONDS)
        except GRPCError as error:
            log.warning("not authorized", status=error.status.name, error=error.message)
            return Answer(NO_AUTHORIZATION)
        until = monotonic() + min(told.ttl_ms / 1000, LONGEST_KEPT)
        if told.status == 200:
            return Answer(None, _as_header(told.user), until)
        if told.status not in (401, 403, 429):
            log.error("answer of no known kind", status=told.status)
            return Answer(NO_AUTHORIZATION)
        return Answer(_problem(told), b"", until)

    return ask


async def _nobody_to_ask(question: Question) -> Answer:
    log.warning("private function called, and the router has no --api", function=question.function)
    return Answer(NO_AUTHORIZATION)


def _problem(told: pb.AuthorizeResponse) -> Problem:
    challenges = [_UNSAFE.sub("", one) for one in told.challenges]
    return Problem(
        told.status,
        _UNSAFE.sub("", json.dumps(told.code)[1:-1]),
        json.dumps(told.message)[1:-1],
        retry_after=told.retry_after,
        headers="".join(f"WWW-Authenticate: {one}\r\n" for one in challenges),
    )


def _as_header(user: str) -> bytes:
    """Who it is, percent-encoded but for visible ASCII."""
    safe = "!#$&'()*+,/:;=?@[]\"<>\\^`{|}~-._"
    return quote_from_bytes(user.encode(), safe=safe).encode()


def take_credentials(request: Request) -> bytes:
    """The credentials of a request for a private function, which leave its head with this.

    `X-SanFran-Authorization` counts, if there is one: then `Authorization` is the function's own affair.
    """
    if request.credentials:
        return request.credentials
    found = _AUTHORIZATION.findall(request.head)
    if found:
        request.head = _AUTHORIZATION.sub(b"", request.head)
    # Several make no valid one: a proxy may have looked at another than we would.
    request.credentials = b", ".join(found)
    return request.credentials


def forwarded_for(request: Request) -> str:
    """What the proxy before this router says of the client's address; empty: it says nothing."""
    match = _FORWARDED.search(request.head)
    if match is None:
        return ""
    # The last is the proxy itself, which this router has added.
    addresses = match[1].split(b",")
    return addresses[-2].strip().decode("latin-1")[:64] if len(addresses) > 1 else ""


def name_user(request: Request, user: bytes) -> None:
    """Tells the function who calls."""
    line, end, rest = request.head.partition(b"\r\n")
    request.head = b"%b%bx-sanfran-user: %b\r\n%b" % (line, end, user, rest)
