"""A client's connection: its request heads are bounded in bytes and in time.

uvicorn counts the time after an answer alone, and no bytes. A client could keep a connection for
ever with half a head, and a head without an end would fill the memory.
"""

import asyncio
from typing import Any

import httptools
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from config.bounds import HEAD
from streams.http.problems import Problem, problem_response

FIELD = len(": \r\n")  # bytes of a header field beside its name and value
UNREADABLE = Problem(400, "bad_request", "This is no HTTP request.")
TOO_LARGE = Problem(431, "head_too_large", f"A request's head has at most {HEAD} bytes.")


class HeadTooLarge(Exception):
    """Raised in a callback of the parser, which ends the parsing."""


class HttpConnection(HttpToolsProtocol):
    """uvicorn's, with bounds for a request's head; an upgrade that is not offered is ignored."""

    _patience: asyncio.TimerHandle | None = None
    _in_head = False
    _head = 0  # bytes of the request line and the fields that the parser has found so far
    _read = False  # whether the parser has come to a border of a head or body, or to a body's bytes
    _unread = 0  # bytes since then

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        for place in range(0, len(data), HEAD):
            if self.transport.is_closing():
                return
            self._parse(data[place : place + HEAD])
        # Half a head, a blank line, or the rest of a body that was refused.
        answered = self.cycle is None or self.cycle.response_complete
        if answered and self._patience is None and not self.transport.is_closing():
            self._wait()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head, self._read = True, 0, True
        if self._patience is None:  # the next one's head, while this one's answer is under way
            self._wait()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + FIELD)
        if self._in_head:  # otherwise a trailer, which RFC 9110 §6.5.1 lets nobody merge
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._head, self._read = False, 0, True
        if self.parser.should_upgrade() and not self._should_upgrade():
            return  # the head is parsed again, without its `Upgrade`
        self._have_done()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._read = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._read = True
        if not self.parser.should_upgrade() or self._should_upgrade():
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_done()
        super().connection_lost(exc)

    def _parse(self, data: bytes) -> None:
        self._read = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            too_large = isinstance(error.__context__, HeadTooLarge)
            self._refuse(TOO_LARGE if too_large else UNREADABLE)
            return
        # The parser names a field when it has the whole of it: one without an end, a trailer's or
        # a chunk's extension too, is known by the bytes that went in and led to nothing.
        self._unread = 0 if self._read else self._unread + len(data)
        if self._unread > HEAD:
            self._refuse(TOO_LARGE)

    def _upgrade(self, rest: bytes) -> None:
        """Switch to another protocol, or go on as if nobody had asked for it: RFC 9110 §7.8.

        httptools takes a request that asks to upgrade for one without a body. So its head is
        parsed once more without the field; what came after it is its body.
        """
        if self._should_upgrade():
            self.handle_websocket_upgrade()
            return
        method = self.parser.get_method()
        if method == b"CONNECT":  # it always upgrades, and asks a proxy
            self._refuse(UNREADABLE)
            return
        version = self.parser.get_http_version().encode()
        fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        self._parse(
            b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(fields)) + rest
        )

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > HEAD:
            raise HeadTooLarge

    def _refuse(self, problem: Problem) -> None:
        if self.cycle is None or self.cycle.response_complete:  # else it would land in an answer
            answer = problem_response(problem)
            fields: dict[str, Any] = {
                **answer.headers,
                "Content-Length": len(answer.content),
                "Connection": "close",
            }
            lines = [f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}"]
            lines += [f"{name}: {value}" for name, value in fields.items()]
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + answer.content)
        self.transport.close()

    def _wait(self) -> None:
        self._patience = self.loop.call_later(settings.CONNECTION_TIMEOUT, self.transport.close)

    def _have_done(self) -> None:
        if self._patience:
            self._patience.cancel()
            self._patience = None
