"""One WebSocket: the conversation's stream as JSON frames, and a client's requests.

The handshake and each request run through the same middleware, views and threads as over HTTP. The
event loop only moves frames.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing, suppress
from io import BytesIO

from django.http import HttpResponse

from streams.delivery.open_streams import OpenStream
from streams.delivery.stream_end import StreamEnd
from streams.dialects.websocket_api import HANDSHAKE, SocketResponse
from streams.dialects.websocket_frames import (
    FrameRefused,
    accepted_frame,
    event_frames,
    read_frame,
    refused_frame,
)
from streams.http.disconnect import break_connection
from streams.http.problems import problem_response
from streams.http.request import Receive, Request, Scope, Send
from streams.http.request_limits import SOCKET
from streams.http.threaded_handler import OVERLOADED, Overloaded, ThreadedHandler, refused_early
from streams.observability import metrics

logger = logging.getLogger(__name__)
Handlers = Callable[[str, str], ThreadedHandler]  # by method and path
DIALECT = "websocket"
# The header fields of the handshake that are copied into each request to the API.
KEPT = (b"host", b"cookie", b"authorization", b"origin", b"x-request-id", b"traceparent")
NORMAL, INTERNAL, RESTART, LATER = 1000, 1011, 1012, 1013  # RFC 6455 §7.4.1, and IANA's registry
HTTP = 4000  # plus an HTTP status: the close code for the same reason
# After any other end, also after the last event, the client reconnects, because a proxy may have
# dropped the last frames.
CLOSES = {StreamEnd.FORBIDDEN: (HTTP + 403, "forbidden"), StreamEnd.GONE: (HTTP + 404, "gone")}


class SocketRequest(Request):
    """A request that a socket sends to the API for its client."""

    _dont_enforce_csrf_checks = True  # an attribute of Django; the handshake's Origin was checked


async def serve_socket(handler_of: Handlers, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one socket, from its handshake to its close."""
    socket = Socket(handler_of, scope, receive, send)
    with suppress(OSError):  # the client has left
        try:
            await socket.open()
        except asyncio.CancelledError:
            await break_connection(scope)  # the process is stopping, and cannot wait longer


class Socket:
    """One client's connection. Each frame of the client gets one response, in the same order."""

    def __init__(self, handler_of: Handlers, scope: Scope, receive: Receive, send: Send) -> None:
        found = SOCKET.match(scope["path"])
        self._conversation = found["conversation"] if found else ""
        self._handler_of = handler_of
        self._scope = scope
        self._receive = receive
        self._send = send
        self._credentials = [field for field in scope["headers"] if field[0] in KEPT]
        self._answering = asyncio.Lock()  # held while a frame of the client is answered

    async def open(self) -> None:
        """Do the handshake. Then serve the stream, or send the refusal."""
        await self._receive()  # `websocket.connect`
        response = await self._respond(self._handshake())
        await self._send({"type": "websocket.accept"})
        if isinstance(response, SocketResponse):
            if response.token:  # the token may have come in the query
                bearer = (b"authorization", b"Bearer " + response.token.encode())
                self._credentials = [f for f in self._credentials if f[0] != bearer[0]] + [bearer]
            try:
                with metrics.DIALECT_STREAMS.labels(DIALECT).track_inprogress():
                    await self._serve(response.stream)
            finally:
                response.stream.close()
        elif response.status_code == 204:
            await self._close(NORMAL, "idle")
        else:
            await self._refuse(response)

    async def _serve(self, stream: OpenStream) -> None:
        sending = asyncio.create_task(self._send_events(stream))
        answering = asyncio.create_task(self._answer_frames())
        try:
            await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
            if sending.cancelled():
                await break_connection(self._scope)  # the reader takes no data, so no close frame
            elif answering.done():
                answering.result()  # the client has left
            else:
                sending.result()
                async with self._answering:  # the client gets its response first
                    end = stream.end or StreamEnd.DRAINING
                    await self._close(*CLOSES.get(end, (RESTART, "reconnect")))
        except OSError:
            raise
        except Exception:
            logger.exception("a socket of conversation %s failed", self._conversation)
            await self._close(INTERNAL, "internal")
        finally:
            sending.cancel()
            answering.cancel()
            await asyncio.gather(sending, answering, return_exceptions=True)

    async def _send_events(self, stream: OpenStream) -> None:
        async with aclosing(stream):
            async for piece in stream:
                for frame in event_frames(piece):
                    await self._send_text(frame)

    async def _answer_frames(self) -> None:
        while (message := await self._receive())["type"] != "websocket.disconnect":
            async with self._answering:
                await self._send_text(await self._answer(message.get("text")))

    async def _answer(self, text: str | None) -> str:
        try:
            asked = await asyncio.to_thread(read_frame, text, self._conversation)
        except FrameRefused as refused:
            return refused_frame(refused.name, problem_response(refused.problem))
        response = await self._respond(
            self._http_scope("POST", asked.path, asked.fields), asked.body
        )
        if response.status_code < 300:
            return accepted_frame(asked.name, response)
        return refused_frame(asked.name, response)

    async def _respond(self, scope: Scope, body: bytes = b"") -> HttpResponse:
        """The response of the HTTP API, made in the same threads as over HTTP."""
        request = SocketRequest(scope, BytesIO(body))
        try:
            response = await self._handler_of(scope["method"], scope["path"]).respond(request)
        except Overloaded:
            return refused_early(scope, OVERLOADED)
        assert isinstance(response, HttpResponse)
        return response

    def _handshake(self) -> Scope:
        last_id = [field for field in self._scope["headers"] if field[0] == b"last-event-id"]
        scope = self._http_scope("GET", self._scope["path"], last_id)
        return {
            **scope,
            "query_string": self._scope["query_string"],
            "extensions": {HANDSHAKE: {}},
        }

    def _http_scope(self, method: str, path: str, fields: list[tuple[bytes, bytes]]) -> Scope:
        return {
            **self._scope,
            "type": "http",
            "scheme": "https" if self._scope.get("scheme") == "wss" else "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [*self._credentials, *fields],
            "extensions": {},
        }

    async def _refuse(self, response: HttpResponse) -> None:
        await self._send_text(refused_frame(None, response))
        status = response.status_code
        code = HTTP + status if status < 500 else LATER if status == 503 else INTERNAL
        await self._close(code, response.reason_phrase)

    async def _send_text(self, text: str) -> None:
        await self._send({"type": "websocket.send", "text": text})

    async def _close(self, code: int, reason: str) -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})
