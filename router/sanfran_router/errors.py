"""Every answer that the router itself gives, in one place.

A `Problem` is one row of the error table; `Refusal` carries it up to the client's connection.
"""

from __future__ import annotations

from http import HTTPStatus


class Problem:
    """One kind of error answer, its bytes made once.

    Args:
        status: HTTP status code.
        code: stable word for programs, see docs/contracts.md.
        message: one sentence for people.
        retry_after: seconds, sent as Retry-After; 0: not sent.
        close: the connection cannot be used after it, since where the next request begins is unknown.
        headers: further lines.
    """

    __slots__ = ("_body", "_head", "close", "code", "status")

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after: int = 0,
        close: bool = False,
        headers: str = "",
    ) -> None:
        self.status = status
        self.code = code
        self.close = close
        retry = f"Retry-After: {retry_after}\r\n" if retry_after else ""
        self._head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"Content-Type: application/json\r\n{retry}{headers}Content-Length: "
        ).encode()
        self._body = (
            f'{{"error":{{"code":"{code}","message":"{message}","request_id":"'.encode(),
            b'"}}\n',
        )

    def render(self, request_id: bytes, connection: bytes, *, head_only: bool = False) -> bytes:
        """The whole answer.

        Args:
            request_id: visible ASCII.
            connection: a Connection header line, or nothing.
            head_only: for HEAD requests.
        """
        plain = request_id
        if b'"' in request_id or b"\\" in request_id:
            request_id = request_id.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        before, after = self._body
        length = b"%d" % (len(before) + len(request_id) + len(after))
        head = (self._head, length, b"\r\nX-Request-Id: ", plain, b"\r\n", connection, b"\r\n")
        if head_only:
            return b"".join(head)
        return b"".join((*head, before, request_id, after))


class Refusal(Exception):
    """A request or an activation is answered with `problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


BAD_REQUEST = Problem(400, "bad_request", "the request is not valid HTTP/1.1", close=True)
CONNECT_REFUSED = Problem(405, "bad_request", "CONNECT is not supported", close=True)
EXPECTATION = Problem(417, "bad_request", "the only known expectation is 100-continue", close=True)
HEAD_TIMEOUT = Problem(408, "head_timeout", "the request's head took too long", close=True)
BODY_TIMEOUT = Problem(408, "body_timeout", "the request's body took too long", close=True)
TOO_LARGE = Problem(413, "too_large", "the request's body is too large", close=True)
HEAD_TOO_LARGE = Problem(431, "head_too_large", "the request's head is too large", close=True)

NOT_FOUND = Problem(404, "not_found", "no such function")
LOAD_FAILED = Problem(500, "load_failed", "the function's code failed to load; see its logs")

POD_FAILED = Problem(502, "pod_failed", "the function's process failed before it answered")
BAD_ANSWER = Problem(502, "pod_failed", "the function's process gave no valid HTTP answer")
TIMEOUT = Problem(504, "timeout", "the function exceeded its timeout")

NO_CAPACITY = Problem(503, "no_capacity", "no pod could be had in time", retry_after=1)
QUEUE_FULL = Problem(503, "no_capacity", "too many requests wait already", retry_after=1)
BODY_GONE = Problem(
    503, "no_capacity", "the pod went away and the body cannot be sent again", retry_after=1
)
NO_AUTHORIZATION = Problem(
    503,
    "no_authorization",
    "whether you may call this private function cannot be told right now",
    retry_after=1,
)
TOO_MANY_CONNECTIONS = Problem(
    503, "no_capacity", "too many connections", retry_after=1, close=True
)
STOPPING = Problem(503, "stopping", "this router stops", retry_after=1, close=True)
