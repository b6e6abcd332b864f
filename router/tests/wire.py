"""Both ends of the wire, read strictly: what a pod was really sent, what a client really got.

Readers of their own, which share nothing with the router's: where the two disagree, a test fails.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from sanfran_proto.sanfran import v1 as pb

from tests.parts import node_binary

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEADER = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_REQUEST_LINE = re.compile(rb"([A-Z-]+) ([^\x00-\x20\x7f]+) HTTP/1\.1")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")
OTHER = b"GET /fn/hello/other HTTP/1.1\r\nHost: other\r\n\r\n"
Pairs = list[tuple[bytes, bytes]]


@dataclass
class Message:
    """A request or an answer: what it means, however it was framed."""

    line: tuple[bytes, ...]
    headers: Pairs
    body: bytes = b""
    trailers: Pairs = field(default_factory=list)
    whole: bool = True
    """False: it broke off."""

    @property
    def method(self) -> bytes:
        return self.line[0]

    @property
    def target(self) -> bytes:
        return self.line[1]

    @property
    def status(self) -> int:
        return int(self.line[0])

    def all(self, name: bytes) -> list[bytes]:
        """The values of a header."""
        return [value for key, value in self.headers if key.lower() == name]

    def meaning(self) -> object:
        """All but how it was framed, and whether that was announced with `Expect`."""
        framing = (b"transfer-encoding", b"expect")
        kept = [pair for pair in self.headers if pair[0].lower() not in framing]
        return (self.line, kept, self.body, self.trailers, self.whole)


def pairs_in(lines: list[bytes]) -> Pairs:
    pairs = []
    for line in lines:
        match = _HEADER.fullmatch(line)
        assert match is not None, f"no header: {line!r}"
        pairs.append((match[1], match[2]))
    return pairs


def _chunks(raw: bytes, at: int) -> tuple[bytes, Pairs, int]:
    """A chunked body from `at` on. IndexError: it is not all there."""
    body = b""
    while True:
        end = raw.find(b"\r\n", at)
        if end < 0:
            raise IndexError
        size = re.fullmatch(rb"([0-9a-fA-F]{1,15})(;[ -~]*)?", raw[at:end])
        assert size is not None, f"no chunk size: {raw[at:end]!r}"
        at = end + 2
        left = int(size[1], 16)
        if not left:
            break
        if len(raw) < at + left + 2:
            raise IndexError
        body += raw[at : at + left]
        assert raw[at + left : at + left + 2] == b"\r\n"
        at += left + 2
    if raw.startswith(b"\r\n", at):
        return body, [], at + 2
    end = raw.find(b"\r\n\r\n", at)
    if end < 0:
        raise IndexError
    return body, pairs_in(raw[at:end].split(b"\r\n")), end + 4


def read_request(raw: bytes) -> tuple[Message, int] | None:
    """The request that `raw` begins with, and its length in bytes; None: it is not all there."""
    end = raw.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = raw[:end].split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    assert line is not None, f"no request line: {first!r}"
    message = Message(line.groups(), pairs_in(lines))
    assert len(message.all(b"host")) == 1
    codings, lengths = message.all(b"transfer-encoding"), message.all(b"content-length")
    assert len(codings) + len(lengths) <= 1
    at = end + 4
    if codings:
        assert codings == [b"chunked"]
        try:
            message.body, message.trailers, at = _chunks(raw, at)
        except IndexError:
            return None
    elif lengths:
        assert lengths[0].isdigit()
        size = int(lengths[0])
        if len(raw) < at + size:
            return None
        message.body = raw[at : at + size]
        at += size
    return message, at


def answers_in(raw: bytes, *, methods: Iterator[bytes] | None = None) -> list[Message]:
    """All answers on a connection that is closed now, 1xx among them.

    Args:
        methods: of the requests that they answer; None: no HEAD is among them.
    """
    found = []
    at = 0
    while at < len(raw):
        end = raw.find(b"\r\n\r\n", at)
        assert end > 0, f"no head: {raw[at:]!r}"
        first, *lines = raw[at:end].split(b"\r\n")
        line = _STATUS_LINE.fullmatch(first)
        assert line is not None, f"no status line: {first!r}"
        message = Message((line[1], first), pairs_in(lines))
        found.append(message)
        at = end + 4
        if message.status < 200:
            continue
        bodiless = next(methods) == b"HEAD" if methods is not None else False
        lengths = message.all(b"content-length")
        if bodiless or message.status in (204, 304):
            continue
        if message.all(b"transfer-encoding"):
            assert not lengths
            try:
                message.body, message.trailers, at = _chunks(raw, at)
            except IndexError:
                message.whole = False
                break
        elif lengths:
            size = int(lengths[0])
            message.body = raw[at : at + size]
            message.whole = len(message.body) == size
            at += size
        else:
            message.body = raw[at:]
            break
    return found


def answer(message: Message) -> bytes:
    """Tells the client what arrived."""
    said = b"%b %b %b" % (message.method, message.target, message.body)
    body = b"" if message.method == b"HEAD" else said
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), body)


class Peer:
    """A pod, as a controller tells of it. `address` is set when it listens."""

    address = ""

    def endpoint(self) -> pb.Endpoint:
        return pb.Endpoint(address=self.address, activation_id="act-1", pod="act-1")


class PodSide:
    """One connection as a pod has it: bytes in, bytes out."""

    def __init__(self, say: Callable[[Message], bytes] = answer) -> None:
        self.raw = b""
        self.requests: list[Message] = []
        self._say = say
        self._at = 0
        self._continued = False

    def forget(self) -> None:
        self.raw, self._at = b"", 0
        self.requests.clear()

    def feed(self, data: bytes) -> bytes:
        """What to send for it."""
        self.raw += data
        out = b""
        while True:
            rest = self.raw[self._at :]
            read = read_request(rest)
            if read is None:
                if not self._continued and b"\r\nExpect: 100-continue\r\n" in rest:
                    self._continued = True
                    out += b"HTTP/1.1 100 Continue\r\n\r\n"
                return out
            message, size = read
            self._at += size
            self._continued = False
            self.requests.append(message)
            out += self._say(message)


class RecordingPod(asyncio.Protocol):
    """One of its connections, over a real socket. `sides` has all of them."""

    def __init__(self, sides: list[PodSide], say: Callable[[Message], bytes]) -> None:
        self._side = PodSide(say)
        sides.append(self._side)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._side.feed(data))


class Recorder(Peer):
    """A pod that keeps every byte of every connection."""

    def __init__(self) -> None:
        self.sides: list[PodSide] = []

    @property
    def raw(self) -> bytes:
        return b"".join(side.raw for side in self.sides)

    @property
    def requests(self) -> list[Message]:
        """Those that arrived whole, by connection."""
        return [message for side in self.sides for message in side.requests]

    async def seen(self) -> list[Message]:
        """All requests since it was last asked."""
        requests = self.requests
        self.forget()
        return requests

    def forget(self) -> None:
        """What came so far. Connections stay as they are."""
        for side in self.sides:
            side.forget()


@asynccontextmanager
async def recorder(say: Callable[[Message], bytes] = answer) -> AsyncIterator[Recorder]:
    it = Recorder()
    server = await asyncio.get_running_loop().create_server(
        lambda: RecordingPod(it.sides, say), "127.0.0.1", 0
    )
    it.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield it
    finally:
        server.close()


NODE_SERVER = """
const seen = [];
require('node:http').createServer({ requireHostHeader: false }, (req, res) => {
  if (req.url === '/seen') return res.end(JSON.stringify(seen.splice(0)));
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', () => {
    const { method, url, rawHeaders, rawTrailers } = req;
    const body = Buffer.concat(chunks).toString('latin1');
    seen.push({ method, url, rawHeaders, rawTrailers, body });
    const said = Buffer.from(`${method} ${url} ${body}`, 'latin1');
    res.writeHead(200, { 'Content-Length': said.length });
    res.end(said);
  });
}).listen(0, '127.0.0.1', function () { console.log(this.address().port); });
"""


class NodeServer(Peer):
    """Node's HTTP server, which tells what it has read."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def seen(self) -> list[Message]:
        """All requests since it was last asked, as its parser understood them."""
        host, port = self.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /seen HTTP/1.1\r\nConnection: close\r\n\r\n")
        (answer,) = answers_in(await reader.read())
        writer.close()
        await writer.wait_closed()
        told: list[dict[str, Any]] = json.loads(answer.body)

        def pairs(flat: list[str]) -> Pairs:
            raw = [one.encode("latin-1") for one in flat]
            return list(zip(raw[::2], raw[1::2], strict=True))

        return [
            Message(
                (one["method"].encode(), one["url"].encode("latin-1")),
                pairs(one["rawHeaders"]),
                one["body"].encode("latin-1"),
                pairs(one["rawTrailers"]),
            )
            for one in told
        ]


@asynccontextmanager
async def node_server() -> AsyncIterator[NodeServer]:
    process = await asyncio.create_subprocess_exec(
        node_binary(), "-e", NODE_SERVER, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        yield NodeServer(f"127.0.0.1:{port}")
    finally:
        process.kill()
        await process.wait()
