"""The connection of a WebSocket: uvicorn's protocol, with bounds on what its client may send.

uvicorn bounds the size of a message. It does not bound the time for a message, the number of
waiting messages, or the pongs for a client that does not read. It logs a traceback for text that is
not UTF-8.
"""

import asyncio
from typing import Any

from django.conf import settings
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from config.refusal import UNREADABLE, encoded_refusal
from streams.http.event_stream import CONNECTION

SLICE = 4096  # bytes parsed in one go: they may hold hundreds of messages
WAITING = 64  # messages of a client that may wait for their responses
FRAGMENTS = 1024  # frames of one message
CLOSING = 1.0  # seconds at a shutdown in which the client may respond to the close
TOO_SLOW, TOO_MANY, NOT_UTF8, TOO_BIG = 4408, 4429, 1007, 1009  # the codes of a close


class SocketConnection(WebSocketsSansIOProtocol):
    """uvicorn's protocol with these bounds. At a shutdown the application ends the sockets."""

    _timer: asyncio.TimerHandle | None = None  # for the rest of a message

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:  # otherwise the handshake was refused
            self.scope["extensions"][CONNECTION] = {"abort": self.transport.abort}

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + SLICE])
        if not self.handshake_initiated:  # `websockets` could not read the head, and is silent
            self.transport.write(encoded_refusal(UNREADABLE))
            self.transport.close()
        elif self._timer is None and (self.frames or self.conn.reader.buffer):
            self._timer = self.loop.call_later(settings.CONNECTION_TIMEOUT, self._check_message)

    def _check_message(self) -> None:
        self._timer = None
        if self.read_paused:  # the rest may have arrived, and waits for the application
            self._timer = self.loop.call_later(settings.CONNECTION_TIMEOUT, self._check_message)
        elif self.frames or self.conn.reader.buffer:
            self._fail(TOO_SLOW, "the rest of a message did not arrive")

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= FRAGMENTS:
            self._fail(TOO_BIG, "too many fragments")
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        self._stop_timer()
        if self.queue.qsize() >= WAITING:
            self._fail(TOO_MANY, "wait for the responses")
        elif self.curr_msg_data_type == "text" and not is_utf8(self.frames):
            self._fail(NOT_UTF8, "not UTF-8")
        else:
            super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # drop the pong, because the client reads nothing

    def keepalive_timeout(self) -> None:
        self.pong_timer = self.pending_ping_payload = None
        self._fail(TOO_SLOW, "no pong")

    async def send(self, message: Any) -> None:
        await self.writable.wait()
        if self.close_sent:  # this connection was closed, and the application does not know yet
            raise ClientDisconnected
        await super().send(message)

    def shutdown(self) -> None:
        self.close_timeout = CLOSING
        if self.close_sent:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _fail(self, code: int, reason: str) -> None:
        """Close the connection without waiting for the client, and tell the application."""
        if self.close_sent or self.transport.is_closing():
            return
        self.conn.fail(code, reason)
        if self.conn.close_sent is None:  # in the handshake: no close frame may be sent yet
            self.transport.abort()
            return
        while not self.queue.empty():
            self.queue.get_nowait()  # the client gets no response any more
        self.handle_parser_exception()


def is_utf8(frames: list[bytes]) -> bool:
    """Whether the message in these frames is text."""
    try:
        b"".join(frames).decode()
    except UnicodeDecodeError:
        return False
    return True
