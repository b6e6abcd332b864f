"""grpclib's protocol on our own HTTP/2 (see `http2`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from grpclib.protocol import Connection, EventsProcessor, H2Protocol
from h2.exceptions import ProtocolError

from sanfran_common.rpc import frames
from sanfran_common.rpc.http2 import Http2


class Protocol(H2Protocol):
    """One connection of a client or of a server."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        wire = Http2(client=bool(self.h2_config.client_side))
        wire.initiate_connection()
        stream = cast("asyncio.Transport", transport)
        self.connection = Connection(cast("Any", wire), stream, config=self.config)
        self.connection.flush()
        self.connection.initialize()
        self.processor = process = EventsProcessor(self.handler, self.connection)
        self._steps: dict[type[frames.Event], Callable[[Any], None]] = {
            frames.Begun: process.process_request_received,
            frames.Answered: process.process_response_received,
            frames.Trailed: process.process_trailers_received,
            frames.Received: process.process_data_received,
            frames.Ended: process.process_stream_ended,
            frames.Reset: process.process_stream_reset,
            frames.Widened: process.process_window_updated,
            frames.Resized: process.process_remote_settings_changed,
            frames.Ponged: process.process_ping_ack_received,
            frames.Farewell: process.process_connection_terminated,
        }

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        try:
            events = cast("Any", self.connection.feed(data))
        except ProtocolError as error:
            self.processor.close(f"protocol error: {error}")
            return
        for event in events:
            self._steps[type(event)](event)
        if not self.connection.is_closing():
            self.connection.flush()
