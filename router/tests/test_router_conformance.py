"""HTTP as real clients and real pods speak it, to the byte."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any

import pytest

from router.tests.wire import answers_in, node_server, read_request, recorder
from tests.parts import node_binary

World = Any
PodConnection = Any
END = b"GET /fn/hello/end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def got(world: World, raw: bytes) -> bytes:
    """All that a client gets for these bytes, the last of which close the connection."""
    client = await world.client()
    client.send(raw)
    answer = bytes(await client.closed())
    client.close()
    return answer


async def test_a_request_reaches_the_pod_as_it_was_but_for_what_is_the_routers(
    world: World,
) -> None:
    async with recorder() as pod:
        world.controller.route(pod)
        await world.start_controller()
        await world.start_router()
        await got(
            world,
            b"PATCH /fn/hello/a%20b/?q=%2F&q HTTP/1.1\r\n"
            b"x-lower: 1\r\nhost: a.example:81\r\nX-Lower:2\r\nAccept:\t */*\r\nX-Empty:\r\n"
            b"Cookie: a=1\r\nX-Request-Id: mine-1\r\ntraceparent: 00-1-2-01\r\n"
            b"Forwarded: for=198.51.100.1\r\nX-Forwarded-For: 198.51.100.1\r\nVia: 1.1 front\r\n"
            b"TE: trailers\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nCookie: b=2\r\n"
            b"Content-Length: 3\r\n\r\nabc",
        )
        assert pod.raw == (
            b"PATCH /fn/hello/a%20b/?q=%2F&q HTTP/1.1\r\n"
            b"Host: a.example:81\r\nx-lower: 1\r\nX-Lower: 2\r\nAccept: */*\r\nX-Empty: \r\n"
            b"Cookie: a=1\r\ntraceparent: 00-1-2-01\r\n"
            b"Forwarded: for=198.51.100.1\r\nVia: 1.1 front\r\nCookie: b=2\r\n"
            b"Content-Length: 3\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
            b"X-Forwarded-Host: a.example:81\r\nX-Request-Id: mine-1\r\n"
            b"x-sanfran-activation: act-1\r\n\r\nabc"
        )


ANSWERS = {
    "own words, odd spelling, duplicates in order": (
        b"HTTP/1.1 299 Own  Words \xe9\r\nset-Cookie: a=1; Path=/\r\nX-A:b\r\nX-B:   c  \r\nX-E:\r\n"
        b"Set-Cookie: a=2\r\nX-A: d\r\nContent-Length: 2\r\n\r\nok",
        b"",
    ),
    "no words": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b""),
    "hop-by-hop headers and the engine's": (
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nok",
        b"Connection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nx-hop: 1\r\nUpgrade: h2c\r\n"
        b"Proxy-Connection: x\r\nX-Sanfran-A: 1\r\n",
    ),
    "204 with a length": (b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n", b"Content-Length: 0\r\n"),
    "204 with a coding": (
        b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n",
    ),
    "304 with the length that a 200 would have": (
        b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 99\r\n\r\n",
        b"",
    ),
    "chunks with extensions and trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
        b'3;a;b="c d"\r\nabc\r\n0B;x=1\r\n0123456789a\r\n0\r\nX-T: 1\r\nX-T: 2\r\n\r\n',
        b"",
    ),
    "an interim answer": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"",
    ),
    "HTTP/1.0 that stays": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"Connection: Keep-Alive\r\n",
    ),
}  # fmt: skip
"""What the client gets, and what the pod says beside it in its head."""


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "head and body apart"])
async def test_an_answer_reaches_the_client_to_the_byte(
    world: World, name: str, apart: bool
) -> None:
    expected, beside = ANSWERS[name]

    async def handler(pod: PodConnection) -> None:
        if b"/end " in pod.head:
            pod.send(world.ok)
            return
        first, _, rest = expected.partition(b"\r\n")
        said = first + b"\r\n" + beside + rest
        if "HTTP/1.0" in name:
            said = said.replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        if not apart:
            pod.send(said)
            return
        middle = said.index(b"\r\n\r\n") + 4
        for piece in (said[:20], said[20:middle], said[middle:]):
            pod.send(piece)
            await asyncio.sleep(0.002)

    pod = await world.serving(handler)
    answer = await got(world, b"GET /fn/hello HTTP/1.1\r\nHost: a\r\n\r\n" + END)
    assert answer.startswith(expected)
    assert answer[len(expected) :].endswith(b"\r\nConnection: close\r\n\r\nok")
    assert len(pod.connections) == 1


async def test_an_http_1_0_pod_is_asked_anew_each_time(world: World) -> None:
    async def handler(pod: PodConnection) -> None:
        pod.send(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")

    pod = await world.serving(handler)
    client = await world.client()
    for _ in range(3):
        client.get()
        answer = await client.answer()
        assert answer.head == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    assert len(pod.connections) == 3


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_body_that_ends_with_its_connection_does_so_here(
    world: World, version: bytes
) -> None:
    async def handler(pod: PodConnection) -> None:
        pod.send(b"HTTP/" + version + b" 200 OK\r\nX-A: b\r\n\r\nall")
        pod.send(b" of it")
        pod.writer.close()

    await world.serving(handler)
    assert await got(world, b"GET /fn/hello HTTP/1.1\r\nHost: a\r\n\r\n") == (
        b"HTTP/1.1 200 OK\r\nX-A: b\r\nConnection: close\r\n\r\nall of it"
    )


async def test_an_http_1_0_client_gets_what_it_can_read(world: World) -> None:
    async def handler(pod: PodConnection) -> None:
        pod.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        pod.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n")
        pod.send(b"3;x\r\nabc\r\n0\r\nX-T: 1\r\n\r\n")

    pod = await world.serving(handler)
    answer = await got(world, b"POST /fn/hello HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi")
    assert answer == b"HTTP/1.1 200 OK\r\nTrailer: X-T\r\nConnection: close\r\n\r\nabc"
    assert pod.heads[0].startswith(b"POST /fn/hello HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_a_client_that_expects_is_answered_by_nobody_but_the_handler(world: World) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def handler(pod: PodConnection) -> None:
        assert pod.header("expect") == "100-continue"
        arrived.set()
        await go_on.wait()
        assert await pod.body() == b"abc"
        pod.send(world.ok)

    await world.serving(handler)
    client = await world.client()
    client.get("/fn/hello", "Content-Length: 3", "Expect: 100-continue", method="POST")
    await arrived.wait()
    early = asyncio.ensure_future(client.head())
    await asyncio.sleep(0.02)
    assert not early.done()
    go_on.set()
    assert await early == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"abc")
    assert (await client.answer()).body == b"ok"


@pytest.mark.parametrize("waits", [True, False])
async def test_a_handler_may_refuse_what_is_expected(world: World, waits: bool) -> None:
    async def handler(pod: PodConnection) -> None:
        pod.send(
            b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
        )
        await pod.reader.read()

    pod = await world.serving(handler)
    body = b"" if waits else b"GET /fn/hello/hidden HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = await got(
        world,
        b"PUT /fn/hello HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 44\r\n\r\n"
        + body,
    )
    (refused,) = answers_in(answer)
    assert (refused.status, refused.body, refused.all(b"connection")) == (417, b"no", [b"close"])
    assert len(pod.heads) == 1


TARGETS = {
    b"/fn/hello": b"/fn/hello",
    b"/fn/hello/": b"/fn/hello/",
    b"/fn/hello?x": b"/fn/hello?x",
    b"/fn/hello/?x=/y?z": b"/fn/hello/?x=/y?z",
    b"/fn/hello//x/../y/./%2e%2E/%2F": b"/fn/hello//x/../y/./%2e%2E/%2F",
    b"/fn/hello/" + b"a" * 8000: b"/fn/hello/" + b"a" * 8000,
    b"/fn/h%65llo/x": b"/fn/hello/x",
    b"/fn/%68%65%6c%6C%6F?x": b"/fn/hello?x",
    b"http://b.example/fn/hello": b"/fn/hello",
    b"http://b.example/fn/hello?x": b"/fn/hello?x",
    b"/fn/" + b"a" * 63: b"/fn/" + b"a" * 63,
    b"/fn/" + b"a" * 64: None,
    b"/fn/h%2565llo": None,
    b"/fn/%2e%2e/fn/hello": None,
    b"/fn/..%2Ffn%2Fhello": None,
    b"/fn/./hello": None,
    b"/fn/hello%2Fx": None,
    b"/fn/hello%3Fx": None,
    b"/fn/hello%00": None,
    b"/fn/hello%": None,
    b"/fn/hello;x": None,
    b"/fn/HELLO": None,
    b"/FN/hello": None,
    b"/fn//hello": None,
    b"//fn/hello": None,
    b"/fn/": None,
    b"/fn": None,
    b"/fn?hello": None,
    b"/x/fn/hello": None,
    b"*": None,
}


async def test_targets_reach_the_function_that_they_name_or_nobody(world: World) -> None:
    async with recorder() as pod:
        world.controller.route(pod)
        world.controller.route(pod, name="a" * 63)
        await world.start_controller()
        await world.start_router()
        client = await world.client()
        for method in (b"GET", b"OPTIONS"):
            for target, forwarded in TARGETS.items():
                client.send(b"%b %b HTTP/1.1\r\nHost: a\r\n\r\n" % (method, target))
                answer = await client.answer()
                seen = [one.target for one in await pod.seen()]
                assert answer.status == (200 if forwarded else 404), target
                assert seen == ([forwarded] if forwarded else []), target
        for root in (b"/", b"/?/fn/hello", b"http://b.example", b"http://b.example?/fn/hello"):
            client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % root)
            assert b"SanFran" in (await client.answer()).body
        assert pod.requests == []
    assert world.controller.asked == []


async def test_heads_below_the_limits_pass_whatever_is_long_in_them(world: World) -> None:
    async with recorder() as pod:
        world.controller.route(pod)
        await world.start_controller()
        await world.start_router()
        client = await world.client()
        for line in (b"Cookie: " + b"c" * 15_000, b"\r\n".join(b"X-%d: y" % n for n in range(98))):
            client.send(b"GET /fn/hello HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")
            assert (await client.answer()).status == 200
            (seen,) = await pod.seen()
            assert len(seen.headers) >= 6
            read = read_request(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")
            assert read is not None
            assert seen.headers[: len(read[0].headers)] == read[0].headers


NODE_CLIENT = """
const http = require('node:http');
const [port] = process.argv.slice(1);
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const told = {};
function ask(name, options, send) {
  return new Promise((resolve, reject) => {
    const req = http.request({ port, agent, path: '/fn/hello/' + name, ...options }, (res) => {
      let body = '';
      res.on('data', (chunk) => { body += chunk; });
      res.on('end', () => { told[name] = [res.statusCode, body]; resolve(); });
    });
    req.on('error', reject);
    send(req);
  });
}
(async () => {
  await ask('get', {}, (req) => req.end());
  await ask('empty', { method: 'POST' }, (req) => req.end());
  await ask('sized', { method: 'PUT', headers: { 'Content-Length': 3 } }, (req) => req.end('abc'));
  await ask('chunked', { method: 'POST', headers: { Trailer: 'X-T' } }, (req) => {
    req.write('abc');
    req.write('def');
    req.addTrailers({ 'X-T': '1' });
    req.end();
  });
  await ask('expecting', { method: 'POST', headers: { Expect: '100-continue' } }, (req) => {
    req.on('continue', () => req.end('late'));
    req.flushHeaders();
  });
  await ask('deleting', { method: 'DELETE', headers: { 'Content-Length': 1 } }, (req) => req.end('x'));
  await ask('head', { method: 'HEAD' }, (req) => req.end());
  agent.destroy();
  const answer = await fetch(`http://localhost:${port}/fn/hello/fetched`, {
    method: 'POST', duplex: 'half', body: new Blob(['streamed']).stream(),
  });
  told.fetched = [answer.status, await answer.text()];
  console.log(JSON.stringify(told));
  process.exit(0);
})();
"""


async def test_nodes_and_pythons_own_clients_are_understood_by_nodes_server(world: World) -> None:
    async with node_server() as pod:
        world.controller.route(pod)
        await world.start_controller()
        await world.start_router()
        port = world.listener.address.rpartition(":")[2]
        process = await asyncio.create_subprocess_exec(
            node_binary(), "-e", NODE_CLIENT, port, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        told = json.loads(said)
        at = "/fn/hello/"
        assert told == {
            "get": [200, f"GET {at}get "],
            "empty": [200, f"POST {at}empty "],
            "sized": [200, f"PUT {at}sized abc"],
            "chunked": [200, f"POST {at}chunked abcdef"],
            "expecting": [200, f"POST {at}expecting late"],
            "deleting": [200, f"DELETE {at}deleting x"],
            "head": [200, ""],
            "fetched": [200, f"POST {at}fetched streamed"],
        }
        seen = {one.target: one for one in await pod.seen()}
        assert seen[b"/fn/hello/chunked"].trailers == [(b"X-T", b"1")]

        def python() -> list[object]:
            connection = http.client.HTTPConnection("127.0.0.1", int(port))
            answers: list[object] = []
            for body in (None, b"abc", iter([b"ab", b"cd"])):
                connection.request("POST", "/fn/hello", body, encode_chunked=True)
                answers.append(connection.getresponse().read())
            connection.close()
            return answers

        assert await asyncio.to_thread(python) == [
            b"POST /fn/hello ",
            b"POST /fn/hello abc",
            b"POST /fn/hello abcd",
        ]
