"""HTTP/2 as far as gRPC needs it, in place of h2's state machines: a third of a call's CPU.

The peers are mostly this same code, but any other one (grpcurl, a kubelet) is understood as well.

Takes the place of `h2.connection.H2Connection` for grpclib, with its exceptions. Sections are those of
RFC 9113. What a peer does wrong ends the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from h2.errors import ErrorCodes
from h2.exceptions import (
    FlowControlError,
    NoAvailableStreamIDError,
    ProtocolError,
    StreamClosedError,
    TooManyStreamsError,
)
from h2.settings import SettingCodes
from hpack import Decoder

from sanfran_common.rpc import frames
from sanfran_common.rpc.headers import HEAD_MOST, TABLE, Headers, read_headers, write_headers


class _Call:
    """A stream: `id` of its frames, and how much may still be sent each way."""

    __slots__ = ("answered", "in_window", "out_window", "read", "received_end", "sent_end")

    def __init__(self, out_window: int) -> None:
        self.out_window = out_window
        self.in_window = frames.WINDOW
        self.read = 0  # bytes, not acknowledged yet
        self.sent_end = False
        self.received_end = False
        self.answered = False  # the peer's first headers are there

    @property
    def closed(self) -> bool:
        """For grpclib."""
        return self.sent_end and self.received_end

    @property
    def open(self) -> bool:
        """For grpclib."""
        return not self.closed


class Http2:
    """One connection, without its socket.

    Args:
        client: which end this is.
    """

    def __init__(self, *, client: bool) -> None:
        self.streams: dict[int, _Call] = {}
        self.ended = False  # the end of a call's sending has been written, and shall not wait
        self.acks = 0  # answers to pings and settings
        self.max_outbound_frame_size = frames.FRAME
        self.state_machine = SimpleNamespace(state=None)  # grpclib asks whether it is closed
        self._client = client
        self._next_id = 1
        self._last_id = 0  # of the peer's calls
        self._out: list[bytes] = []
        self._rest = b""
        self._events: list[frames.Event] = []
        self._preface = b"" if client else frames.PREFACE
        self._decoder = Decoder(max_header_list_size=HEAD_MOST)
        self._shrink = b""
        self._block: tuple[int, bool, bytearray] | None = None  # headers that go on in a next frame
        self._out_window = frames.DEFAULT_WINDOW
        self._first_window = frames.DEFAULT_WINDOW
        self._in_window = frames.WINDOW
        self._read = 0
        self._streams_most = frames.ID_MOST
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            frames.DATA: self._on_data,
            frames.HEADERS: self._on_headers,
            frames.RST_STREAM: self._on_reset,
            frames.SETTINGS: self._on_settings,
            frames.PUSH_PROMISE: self._on_push,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_goaway,
            frames.WINDOW_UPDATE: self._on_window,
            frames.CONTINUATION: self._on_continuation,
        }

    def initiate_connection(self) -> None:
        """What each end says first (section 3.4)."""
        if self._client:
            self._out.append(frames.PREFACE)
        told = {
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.MAX_CONCURRENT_STREAMS: frames.STREAMS,
            SettingCodes.INITIAL_WINDOW_SIZE: frames.WINDOW,
            SettingCodes.MAX_HEADER_LIST_SIZE: HEAD_MOST,
        }
        self._frame(frames.SETTINGS, 0, 0, b"".join(map(frames.SETTING.pack, told, told.values())))
        more = frames.NUMBER.pack(frames.WINDOW - frames.DEFAULT_WINDOW)
        self._frame(frames.WINDOW_UPDATE, 0, 0, more)

    def data_to_send(self) -> bytes:
        """What is to be sent since the last call."""
        out, self._out = self._out, []
        return out[0] if len(out) == 1 else b"".join(out)

    # -- what grpclib sends

    def get_next_available_stream_id(self) -> int:
        """For the next call of a client.

        Raises:
            NoAvailableStreamIDError: this connection has had all that there are.
        """
        if self._next_id > frames.ID_MOST:
            raise NoAvailableStreamIDError("a connection has had a thousand million calls")
        return self._next_id

    def send_headers(self, stream_id: int, headers: Headers, end_stream: bool = False) -> None:
        """Begins a call, answers it, or ends it with trailers.

        Raises:
            TooManyStreamsError: the peer takes no further call now.
            StreamClosedError: the call is over.
            UnicodeEncodeError: a header is not ASCII. The call has not begun.
        """
        block = write_headers(headers)
        call = self.streams.get(stream_id)
        if call is None:
            if not self._client or stream_id < self._next_id:
                raise StreamClosedError(stream_id)
            if len(self.streams) >= self._streams_most:
                raise TooManyStreamsError(f"{len(self.streams)} calls run on this connection")
            self._next_id = stream_id + 2
            call = self.streams[stream_id] = _Call(self._first_window)
        if self._shrink:
            block, self._shrink = self._shrink + block, b""
        most = self.max_outbound_frame_size
        flags = frames.END_STREAM if end_stream else 0
        if len(block) <= most:
            self._frame(frames.HEADERS, flags | frames.END_HEADERS, stream_id, block)
        else:
            self._frame(frames.HEADERS, flags, stream_id, block[:most])
            for at in range(most, len(block), most):
                last = frames.END_HEADERS if at + most >= len(block) else 0
                self._frame(frames.CONTINUATION, last, stream_id, block[at : at + most])
        if end_stream:
            self._sent_end(stream_id, call)

    def local_flow_control_window(self, stream_id: int) -> int:
        """Bytes that may be sent now.

        Raises:
            StreamClosedError: the call is over.
        """
        return min(self._out_window, self._call(stream_id).out_window)

    def send_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        """Sends as much as `local_flow_control_window` and `max_outbound_frame_size` allow.

        Raises:
            StreamClosedError: the call is over.
        """
        call = self._call(stream_id)
        self._out_window -= len(data)
        call.out_window -= len(data)
        self._frame(frames.DATA, frames.END_STREAM if end_stream else 0, stream_id, data)
        if end_stream:
            self._sent_end(stream_id, call)

    def has_room(self, size: int) -> bool:
        """Whether one more call of so many bytes can be sent at once."""
        return (
            size <= self._out_window
            and size <= self._first_window
            and len(self.streams) < self._streams_most
            and self._next_id <= frames.ID_MOST
        )

    def takes(self, stream_id: int, size: int) -> bool:
        """Whether so many bytes of a call can be sent at once."""
        return size <= self._out_window and size <= self.streams[stream_id].out_window

    def send_all(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        """Sends data for which there is room, in as many frames as it takes."""
        most = self.max_outbound_frame_size
        while len(data) > most:
            self.send_data(stream_id, data[:most])
            data = data[most:]
        self.send_data(stream_id, data, end_stream)

    def end_stream(self, stream_id: int) -> None:
        """No more comes from this end. Raises as `send_data` does."""
        self.send_data(stream_id, b"", end_stream=True)

    def reset_stream(self, stream_id: int, error_code: int = 0) -> None:
        """Ends a call at once. Raises as `send_data` does."""
        self._call(stream_id)
        del self.streams[stream_id]
        self._frame(frames.RST_STREAM, 0, stream_id, frames.NUMBER.pack(error_code))

    def ping(self, opaque_data: bytes) -> None:
        """Asks whether the peer is there."""
        self._frame(frames.PING, 0, 0, opaque_data)

    def acknowledge_received_data(self, size: int, stream_id: int) -> None:
        """The caller has done with so many bytes; the peer is told when half a window has come together."""
        self._read += size
        if self._read >= frames.WINDOW // 2:
            self._frame(frames.WINDOW_UPDATE, 0, 0, frames.NUMBER.pack(self._read))
            self._in_window += self._read
            self._read = 0
        call = self.streams.get(stream_id)
        if call is not None and not call.received_end:
            call.read += size
            if call.read >= frames.WINDOW // 2:
                self._frame(frames.WINDOW_UPDATE, 0, stream_id, frames.NUMBER.pack(call.read))
                call.in_window += call.read
                call.read = 0

    def _call(self, stream_id: int) -> _Call:
        call = self.streams.get(stream_id)
        if call is None:
            raise StreamClosedError(stream_id)
        return call

    def _sent_end(self, stream_id: int, call: _Call) -> None:
        call.sent_end = self.ended = True
        if call.received_end:
            del self.streams[stream_id]

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._out.append(frames.HEAD.pack(size >> 8, size & 255, kind, flags, stream_id) + payload)

    # -- what the peer sends

    def receive_data(self, data: bytes) -> list[frames.Event]:
        """What has happened, by the next bytes of the connection.

        Raises:
            ProtocolError: the peer breaks the rules.
        """
        if self._rest:
            data = self._rest + data
        if self._preface:
            if not data.startswith(self._preface):
                if not self._preface.startswith(data):
                    raise ProtocolError("this is no HTTP/2")
                self._rest = data
                return []
            data = data[len(self._preface) :]
            self._preface = b""
        at, end = 0, len(data)
        while end - at >= 9:
            high, low, kind, flags, stream_id = frames.HEAD.unpack_from(data, at)
            size = high << 8 | low
            if size > frames.FRAME:
                raise ProtocolError(f"a frame of {size} bytes")
            if end - at - 9 < size:
                break
            at += 9
            if self._block is not None and kind != frames.CONTINUATION:
                raise ProtocolError("headers that do not go on")
            handle = self._handlers.get(kind)  # others are to be ignored (section 4.1)
            if handle is not None:
                handle(flags, stream_id & frames.ID_MOST, data[at : at + size])
            at += size
        self._rest = data[at:] if at < end else b""
        events, self._events = self._events, []
        return events

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._in_window -= size
        if self._in_window < 0:
            raise FlowControlError("more than the connection's window")
        call = self.streams.get(stream_id)
        if call is None:
            self._must_be_old(stream_id)
            self.acknowledge_received_data(size, 0)  # of a call that we have given up
            return
        call.in_window -= size
        if call.in_window < 0 or call.received_end:
            raise FlowControlError("more than the stream's window, or after its end")
        if flags & frames.PADDED:
            payload = frames.without_padding(payload)
        if size:
            self._events.append(frames.Received(stream_id, payload, size))
        if flags & frames.END_STREAM:
            self._received_end(stream_id, call)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & frames.PADDED:
            payload = frames.without_padding(payload)
        if flags & frames.PRIORITIZED:
            payload = payload[5:]
        ends = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._on_block(stream_id, ends, payload)
        else:
            self._block = (stream_id, ends, bytearray(payload))

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != stream_id:
            raise ProtocolError("the rest of no headers")
        _, ends, block = self._block
        block += payload
        if len(block) > HEAD_MOST or not payload:
            raise ProtocolError("headers too long, or in empty pieces")
        if flags & frames.END_HEADERS:
            self._block = None
            self._on_block(stream_id, ends, bytes(block))

    def _on_block(self, stream_id: int, ends: bool, block: bytes) -> None:
        headers = read_headers(self._decoder, block)
        call = self.streams.get(stream_id)
        if call is None:
            if self._client or stream_id <= self._last_id:
                self._must_be_old(stream_id)
                return
            if not stream_id & 1:
                raise ProtocolError("a call with the number of a server's")
            self._last_id = stream_id
            if len(self.streams) >= frames.STREAMS:
                refused = frames.NUMBER.pack(ErrorCodes.REFUSED_STREAM)
                self._frame(frames.RST_STREAM, 0, stream_id, refused)
                return
            call = self.streams[stream_id] = _Call(self._first_window)
            call.answered = True
            self._events.append(frames.Begun(stream_id, headers))
        elif call.received_end:
            raise ProtocolError("headers after the end")
        elif call.answered:
            self._events.append(frames.Trailed(stream_id, headers))
        elif not dict(headers).get(":status", "").startswith("1"):
            call.answered = True
            self._events.append(frames.Answered(stream_id, headers))
        if ends:
            self._received_end(stream_id, call)

    def _on_reset(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ProtocolError("a reset of another size")
        if self.streams.pop(stream_id, None) is None:
            self._must_be_old(stream_id)
            return
        self._events.append(frames.Reset(stream_id, frames.NUMBER.unpack(payload)[0]))

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id or len(payload) % 6 or (flags & frames.ACK and payload):
            raise ProtocolError("settings of no known form")
        if flags & frames.ACK:
            return
        for code, value in frames.SETTING.iter_unpack(payload):
            if code == SettingCodes.INITIAL_WINDOW_SIZE:
                if value > frames.WINDOW_MOST:
                    raise FlowControlError("a window too large")
                for call in self.streams.values():  # it may fall below zero: section 6.9.2
                    call.out_window += value - self._first_window
                self._first_window = value
                self._events.append(frames.Resized())
            elif code == SettingCodes.MAX_FRAME_SIZE:
                if not frames.FRAME <= value < 1 << 24:
                    raise ProtocolError("frames of no allowed size")
                self.max_outbound_frame_size = value
            elif code == SettingCodes.MAX_CONCURRENT_STREAMS:
                self._streams_most = value
            elif code == SettingCodes.HEADER_TABLE_SIZE and value < TABLE:
                self._shrink = b"\x20"  # RFC 7541, 4.2: to nothing, which is all that is used
        self.acks += 1
        self._frame(frames.SETTINGS, frames.ACK, 0, b"")

    def _on_push(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ProtocolError("a push, which was not allowed")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id or len(payload) != 8:
            raise ProtocolError("a ping of no known form")
        if flags & frames.ACK:
            self._events.append(frames.Ponged())
        else:
            self.acks += 1
            self._frame(frames.PING, frames.ACK, 0, payload)

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id or len(payload) < 8:
            raise ProtocolError("a farewell of no known form")
        self._events.append(frames.Farewell(frames.NUMBER.unpack_from(payload, 4)[0]))

    def _on_window(self, flags: int, stream_id: int, payload: bytes) -> None:
        more = frames.NUMBER.unpack(payload)[0] & frames.ID_MOST if len(payload) == 4 else 0
        if not more:
            raise ProtocolError("a window that does not grow")
        if not stream_id:
            self._out_window += more
            window = self._out_window
        else:
            call = self.streams.get(stream_id)
            if call is None:
                self._must_be_old(stream_id)
                return
            call.out_window += more
            window = call.out_window
        if window > frames.WINDOW_MOST:
            raise FlowControlError("a window too large")
        self._events.append(frames.Widened(stream_id))

    def _received_end(self, stream_id: int, call: _Call) -> None:
        call.received_end = True
        if call.sent_end:
            del self.streams[stream_id]
        self._events.append(frames.Ended(stream_id))

    def _must_be_old(self, stream_id: int) -> None:
        """Frames of a call that is over here may still be on their way (section 5.1)."""
        newest = self._next_id - 1 if self._client else self._last_id
        if not stream_id or stream_id > newest or not stream_id & 1:
            raise ProtocolError(f"a frame of stream {stream_id}, which has not begun")
