"""The HTTP/1.1 connection of a client: uvicorn's, with bounds on the size and time of a head.

The head is the request line and the header fields. uvicorn bounds only the idle time after a
response. With uvicorn alone, half a head could keep a connection open for ever, and an endless head
could fill the memory.
"""

import asyncio
from functools import lru_cache

import httptools
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from config.refusal import UNREADABLE, encoded_refusal
from streams.http.event_stream import CONNECTION, Write
from streams.http.problems import Problem
from streams.http.request import Send
from streams.http.request_limits import HEAD, SOCKET

FIELD = len(": \r\n")  # bytes of a header field beside its name and value
LAST_REQUEST = 0.5  # seconds that a client has to send a request, when the process ends
CHUNKS = 16  # chunks in the cache; few, because an event is written to all readers in one go
TOO_LARGE = Problem(431, "head_too_large", f"The head of a request may have at most {HEAD} bytes.")


class HeadTooLarge(Exception):
    """The head is longer than `HEAD`. Raised in a callback of the parser, to stop the parser."""


@lru_cache(maxsize=CHUNKS)
def as_chunk(data: bytes) -> bytes:
    """Encode a chunk of a body with `Transfer-Encoding: chunked` (RFC 9112 §7.1).

    It is cached, because all readers of a channel get the same data. `data` must not be empty,
    because an empty chunk ends the body.
    """
    assert data
    return b"%x\r\n%b\r\n" % (len(data), data)


class HttpConnection(HttpToolsProtocol):
    """uvicorn's protocol with bounds for a request's head.

    It ignores an `Upgrade` field, except for a WebSocket at its own path.
    """

    _timer: asyncio.TimerHandle | None = None
    _in_head = False
    _head = 0  # bytes of the head that the parser has reported so far
    _reported = False  # whether this piece of data began or ended a message, or held body bytes
    _overtaken: tuple[RequestResponseCycle, ...] = ()  # older unfinished requests
    _unreported = 0  # bytes that the parser has taken since its last report
    _is_ending = False  # whether the process ends

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        for start in range(0, len(data), HEAD):
            if self.transport.is_closing() or self.transport.get_protocol() is not self:
                return  # a client may not send more before its upgrade is accepted
            self._parse(data[start : start + HEAD])
        if self.transport.get_protocol() is not self:
            return
        # The parser has only half a head, a blank line, or the rest of a refused body.
        if self._is_idle() and self._timer is None and not self.transport.is_closing():
            self._start_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head, self._reported = True, 0, True
        if self._timer is None:  # a later request on this connection
            self._start_timer()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + FIELD)
        if self._in_head:  # otherwise it is a trailer, which RFC 9110 §6.5.1 forbids to merge
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._head, self._reported = False, 0, True
        if self.parser.should_upgrade() and not self._should_upgrade():
            return  # `_upgrade` parses the head again, without its `Upgrade` field
        self._stop_timer()
        self.scope["extensions"] = {
            CONNECTION: {"abort": self.transport.abort, "writer": self.writer_of}
        }
        before = self.cycle
        super().on_headers_complete()
        if self._is_ending:
            self.cycle.keep_alive = False
        if before and not before.response_complete:
            # The client has sent its next request before the response to this one has ended.
            behind = (*self._overtaken, before)
            self._overtaken = tuple(one for one in behind if not one.response_complete)

    def on_body(self, body: bytes) -> None:
        self._reported = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._reported = True
        if not self.parser.should_upgrade() or self._should_upgrade():
            super().on_message_complete()

    def shutdown(self) -> None:
        """End this connection with its next response, or soon if no request comes.

        uvicorn closes a connection without an unfinished request at once. But a request may be on
        its way, and a proxy does not send a POST again, because it may have been done.
        """
        self._is_ending = True
        if self._is_idle():
            self.loop.call_later(LAST_REQUEST, self._close_if_idle)
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)
        for cycle in self._overtaken:  # uvicorn itself notifies only the newest request
            cycle.disconnected = True
            cycle.message_event.set()

    def writer_of(self, send: Send) -> Write | None:
        """Return a function that writes a chunk of the body at once, or None if none may do so.

        None if `send` is not the server's own. It then belongs to ASGI middleware, which must see
        each part of the body. None also for HEAD, whose response has no body (RFC 9110 §9.3.2).
        """
        if self.cycle is None or send != self.cycle.send or self.cycle.scope["method"] == "HEAD":
            return None
        return self.write_at_once

    def write_at_once(self, data: bytes) -> bool:
        """Write bytes of the response's body, as a chunk. False if the client must read first."""
        if self.flow.write_paused or self.transport.is_closing():
            return False
        self.transport.write(as_chunk(data))
        return True

    def _parse(self, data: bytes) -> None:
        self._reported = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            too_large = isinstance(error.__context__, HeadTooLarge)
            self._refuse(TOO_LARGE if too_large else UNREADABLE)
            return
        # The parser reports a field only when it is complete. So an endless header field, trailer
        # or chunk extension shows as many bytes without a report.
        self._unreported = 0 if self._reported else self._unreported + len(data)
        if self._unreported > HEAD:
            self._refuse(TOO_LARGE)

    def _should_upgrade(self) -> bool:
        opens = self.parser.get_method() == b"GET" and SOCKET.match(self.url.decode("latin-1"))
        return bool(opens) and super()._should_upgrade()

    def _upgrade(self, rest: bytes) -> None:
        """Switch to another protocol, or ignore the `Upgrade` field (RFC 9110 §7.8).

        httptools assumes that a request with `Upgrade` has no body. So the head is parsed once
        more without that field, and `rest` is parsed as the body.
        """
        if self._should_upgrade():
            self.handle_websocket_upgrade()
            return
        method = self.parser.get_method()
        if method == b"CONNECT":  # it is a request to a proxy, which this server is not
            self._refuse(UNREADABLE)
            return
        version = self.parser.get_http_version().encode()
        fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._parse(
            b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(fields)) + rest
        )

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > HEAD:
            raise HeadTooLarge

    def _refuse(self, problem: Problem) -> None:
        # Inside an unfinished response the refusal would be part of its body.
        if self._is_idle():
            self.transport.write(encoded_refusal(problem))
        self.transport.close()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._is_idle() and self.transport.get_protocol() is self:
            self.transport.close()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(settings.CONNECTION_TIMEOUT, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
