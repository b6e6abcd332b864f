"""Request heads: what is refused, and what a pod is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sanfran_router import errors
from sanfran_router.errors import Problem, Refusal
from sanfran_router.request import CHUNKED, HeadParser, Request

from router.tests.hostile_requests import REFUSED

LINE = b"GET /fn/hello HTTP/1.1\r\n"
HOST = b"Host: example.org\r\n"


def parser(trust: bool = False) -> HeadParser:
    return HeadParser(
        b"192.0.2.7",
        b"127.0.0.1:8080",
        trust_forwarded=trust,
        max_head=4000,
        max_headers=20,
        max_body=1000,
    )


def parse(raw: bytes, *, trust: bool = False) -> Request:
    return parser(trust).parse(raw)


def refused(raw: bytes) -> Problem:
    with pytest.raises(Refusal) as caught:
        parse(raw)
    assert parser().parse_usual(raw) is None, "the short way would let it through"
    return caught.value.problem


def get(*lines: bytes) -> bytes:
    return LINE + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def post(*lines: bytes) -> bytes:
    return get(*lines).replace(b"GET", b"POST", 1)


def sent(request: Request) -> list[bytes]:
    return request.head.split(b"\r\n")[:-1]


@pytest.mark.parametrize("group", ["lengths", "codings", "lines", "request lines", "hosts"])
def test_what_two_parsers_could_read_differently_is_refused_by_both_ways(group: str) -> None:
    let_through = []
    for name, raw in REFUSED[group].items():
        head, end, _ = raw.partition(b"\r\n\r\n")
        if end and refused(head + end) is not errors.BAD_REQUEST:
            let_through.append(name)
    assert let_through == []


def test_limits_and_expectations_have_their_own_answers() -> None:
    assert refused(get(*[b"X-A: b"] * 20)) is errors.HEAD_TOO_LARGE
    assert refused(get(b"X-A: " + b"b" * 4000)) is errors.HEAD_TOO_LARGE
    assert refused(post(b"Content-Length: 1001")) is errors.TOO_LARGE
    assert refused(post(b"Content-Length: 5", b"Expect: payment")) is errors.EXPECTATION
    connect = b"CONNECT example.org:443 HTTP/1.1\r\n" + HOST + b"\r\n"
    assert refused(connect) is errors.CONNECT_REFUSED


def test_a_head_is_written_anew_in_order_with_the_routers_own_lines() -> None:
    request = parse(get(b"Accept:\t */*", b"X-B: 1", b"x-b: 2", b"Cookie: a=b", b"X-Empty:"))
    assert sent(request)[:-1] == [
        b"GET /fn/hello HTTP/1.1",
        b"Host: example.org",
        b"Accept: */*",
        b"X-B: 1",
        b"x-b: 2",
        b"Cookie: a=b",
        b"X-Empty: ",
        b"X-Forwarded-For: 192.0.2.7",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: example.org",
    ]
    assert sent(request)[-1] == b"X-Request-Id: " + request.request_id
    assert request.target == b"/fn/hello"


def test_hop_by_hop_headers_and_those_that_connection_lists_stay_here() -> None:
    request = parse(
        get(
            b"Connection: close, X-Mine , x-other",
            b"X-Mine: 1",
            b"X-OTHER: 2",
            b"X-Kept: 3",
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: keep-alive",
            b"Proxy-Authorization: secret",
            b"TE: trailers",
            b"Upgrade: h2c",
            b"HTTP2-Settings: x",
        )
    )
    assert not request.keep_alive
    text = request.head.lower()
    for gone in (b"x-mine", b"x-other", b"keep-alive", b"proxy-", b"te:", b"upgrade", b"http2"):
        assert gone not in text
    assert b"X-Kept: 3" in request.head


def test_connection_cannot_take_away_what_frames_or_routes() -> None:
    request = parse(post(b"Content-Length: 5", b"Connection: content-length, host"))
    assert b"Content-Length: 5\r\n" in request.head
    assert b"Host: example.org\r\n" in request.head


def test_headers_of_the_engine_are_taken_from_clients() -> None:
    request = parse(
        get(b"X-Sanfran-Activation: stolen", b"x-sanfran-other: y", b"X-Sanfrancisco: z")
    )
    assert b"x-sanfran-" not in request.head.lower()
    assert b"X-Sanfrancisco: z" in request.head


def test_forwarded_headers_are_the_routers_own_unless_trusted() -> None:
    lines = (
        b"X-Forwarded-For: 198.51.100.1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: front.example",
        b"Forwarded: for=198.51.100.1",
    )
    own = parse(get(*lines)).head
    assert b"X-Forwarded-For: 192.0.2.7\r\n" in own
    assert b"X-Forwarded-Proto: http\r\n" in own
    assert b"X-Forwarded-Host: example.org\r\n" in own
    assert b"Forwarded: for=198.51.100.1\r\n" in own
    trusted = parse(get(*lines), trust=True).head
    assert b"X-Forwarded-For: 198.51.100.1, 192.0.2.7\r\n" in trusted
    assert b"X-Forwarded-Proto: https\r\n" in trusted
    assert b"X-Forwarded-Host: front.example\r\n" in trusted


def test_a_request_id_is_kept_when_it_is_one() -> None:
    assert parse(get(b"X-Request-Id: abc-1")).request_id == b"abc-1"
    for bad in (b"", b"a b", b"x" * 129, b"\xc3\xa9"):
        made = parse(get(b"X-Request-Id: " + bad))
        assert made.request_id not in (bad, b"")
        assert made.head.count(b"X-Request-Id: ") == 1
    assert parse(get()).request_id != parse(get()).request_id


@pytest.mark.parametrize(
    ("target", "name", "forwarded"),
    [
        (b"/fn/hello", "hello", b"/fn/hello"),
        (b"/fn/hello/", "hello", b"/fn/hello/"),
        (b"/fn/hello?q=/x", "hello", b"/fn/hello?q=/x"),
        (b"/fn/hello/a/../b?c", "hello", b"/fn/hello/a/../b?c"),
        (b"/fn/h%65llo/a%20b", "hello", b"/fn/hello/a%20b"),
        (b"/fn/" + b"a" * 63, "a" * 63, b"/fn/" + b"a" * 63),
        (b"http://h.example:81/fn/hello?x", "hello", b"/fn/hello?x"),
        (b"/fn/" + b"a" * 64, "", None),
        (b"/fn/", "", None),
        (b"/fn", "", None),
        (b"/fn?x", "", None),
        (b"/", "", None),
        (b"*", "", None),
        (b"//fn/hello", "", None),
        (b"/FN/hello", "", None),
        (b"/fn/Hello", "", None),
        (b"/fn/-a", "", None),
        (b"/fn/a-", "", None),
        (b"/fn/a_b", "", None),
        (b"/fn/../hello", "", None),
        (b"/fn/%2e%2e/hello", "", None),
        (b"/fn/%2E%2E", "", None),
        (b"/fn/%2fhello", "", None),
        (b"/fn/a%2Fb", "", None),
        (b"/fn/hello%00", "", None),
        (b"/fn/hello%", "", None),
        (b"/fn/hello%0", "", None),
        (b"/fn/%C3%A9", "", None),
        (b"http://h.example", "", None),
        (b"/fn/he;llo", "", None),
    ],
)
def test_names_are_decoded_safely(target: bytes, name: str, forwarded: bytes | None) -> None:
    request = parse(b"GET %b HTTP/1.1\r\n" % target + HOST + b"\r\n")
    assert request.name == name
    if forwarded is not None:
        assert request.target == forwarded


def test_the_host_of_an_absolute_target_counts() -> None:
    request = parse(b"GET http://real.example/fn/hello HTTP/1.1\r\n" + HOST + b"\r\n")
    assert sent(request)[1] == b"Host: real.example"


def test_bodies_and_connections_are_understood() -> None:
    assert parse(post(b"Content-Length: 5")).length == 5
    assert parse(post(b"Content-Length: 5 \t")).length == 5
    assert parse(post(b"Transfer-Encoding: Chunked")).length == CHUNKED
    assert parse(post()).length == 0
    assert parse(post(b"Content-Length: 5", b"Expect: 100-Continue")).expects_continue
    old = parse(get().replace(b"/1.1\r\n", b"/1.0\r\n"))
    assert old.http10
    assert not old.keep_alive
    assert parse(get(b"Connection: keep-alive").replace(b"/1.1\r\n", b"/1.0\r\n")).keep_alive
    bare = parse(b"GET /fn/hello HTTP/1.0\r\n\r\n")
    assert sent(bare)[1] == b"Host: 127.0.0.1:8080"


def test_an_upgrade_is_passed_on_only_where_it_can_be_one() -> None:
    ask = (b"Connection: Upgrade", b"Upgrade: websocket")
    request = parse(get(*ask))
    assert request.upgrade
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in request.head
    for other in (
        get(b"Upgrade: websocket"),
        post(*ask, b"Content-Length: 5"),
        get(*ask).replace(b"/1.1\r\n", b"/1.0\r\n"),
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: x"),
    ):
        request = parse(other)
        assert not request.upgrade
        assert b"upgrade" not in request.head.lower()


def test_one_parser_reads_head_after_head() -> None:
    one = parser()
    for raw in (
        post(b"Content-Length: 5"),
        get(),
        get(b"Connection: close"),
        get(b"X-A: b"),
        get(),
    ):
        again = one.parse(raw)
        assert again.name == "hello"
        assert (b"X-A" in again.head) == (b"X-A" in raw)


def test_the_short_way_takes_the_head_of_a_browser_and_keeps_the_limits() -> None:
    browser = get(b"User-Agent: " + b"m" * 300, b"Accept: " + b"a" * 300, b"Cookie: " + b"c" * 300)
    assert parser().parse_usual(browser) is not None
    assert parser().parse_usual(get(*[b"X-A: b"] * 19)) is not None
    assert parser().parse_usual(get(*[b"X-A: b"] * 20)) is None
    assert parser().parse_usual(get(b"X-A: " + b"b" * 4000)) is None


@pytest.mark.parametrize("byte", [bytes([byte]) for byte in range(256)])
def test_the_short_way_knows_what_a_name_may_begin_with(byte: bytes) -> None:
    raw = get(byte + b"x: y")
    if parser().parse_usual(raw) is not None:
        assert byte + b"x: y\r\n" in parse(raw).head


TARGETS = st.text(alphabet="abz019-._~%/?&=+;,:@!$'()*[]|^`{}\"<>#\\ A", max_size=20)
NAMES = st.sampled_from(
    ["Host", "host", "Accept", "Connection", "Content-Length", "TE", "Te-st", "Upgrade",
     "Upgrade-Insecure-Requests", "X-Sanfran-A", "x-sanfran", "X-Forwarded-For", "X-Request-Id",
     "Cookie", "Expect", "Expected", "Keep-Alive", "Proxy-Connection", "Proxy-X", "Hosts",
     "Transfer-Encoding", "Transfer", "Trailer", "HTTP2-Settings", "a", "!", "X Y", "", "Ké",
     "(a", "=a", '"a"', "@", "{a}", "a[", "\\"]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        ["keep-alive", "Keep-Alive", "close", "5", "a.example:80", "", " x", "x ", "é"]
    ),
    st.text(alphabet=st.characters(max_codepoint=255), max_size=8),
)


@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "DELETE", "FOO", "get"]),
    target=TARGETS.map("/fn/a".__add__),
    host=st.sampled_from(["Host: a.example", "host: a:1", "Host:a", "Host: [::1]", "X: y"]),
    headers=st.lists(
        st.tuples(NAMES, st.sampled_from([": ", ":", ":  ", " :"]), VALUES), max_size=5
    ),
    version=st.sampled_from(["1.1", "1.1", "1.1", "1.0", "2.0"]),
)
def test_the_short_way_says_what_the_full_parser_says(
    method: str, target: str, host: str, headers: list[tuple[str, str, str]], version: str
) -> None:
    lines = [f"{method} {target} HTTP/{version}", host, *(n + c + v for n, c, v in headers)]
    raw = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    usual = parser().parse_usual(raw)
    if usual is None:
        return
    full = parse(raw)
    for what in ("method", "name", "target", "length", "keep_alive", "http10", "upgrade"):
        assert getattr(usual, what) == getattr(full, what)

    def lines_of(request: Request) -> list[bytes]:
        lines = sent(request)[1:-1]
        return sorted(
            b"Host" + line[4:] if line[:5].lower() == b"host:" else line for line in lines
        )

    assert sent(usual)[0] == sent(full)[0]
    assert lines_of(usual) == lines_of(full)


@given(st.binary(max_size=80), st.integers(0, 60), st.integers(0, 6))
def test_damaged_heads_are_refused_or_read_as_lines_that_came(
    damage: bytes, at: int, cut: int
) -> None:
    raw = get(b"X-A: b", b"Accept: */*")
    raw = raw[:at] + damage + raw[at + cut :]
    end = raw.find(b"\r\n\r\n")
    if end < 0:
        return
    try:
        request = parse(raw[: end + 4])
    except Refusal:
        return
    came = {line.split(b":")[0].lower() for line in raw.split(b"\r\n")[1:]}
    own = {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-request-id"}
    for line in sent(request)[1:]:
        assert line.split(b":")[0].lower() in came | own
