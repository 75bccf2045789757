"""The proxy between Pushpin and the web processes: it hides a web process that has died.

An EventSource stops at any status other than 200, and Pushpin answers 502 if a web process is away
or ends too early. So the proxy forwards a response only when it is complete. If the response to the
reader of a stream is incomplete, the proxy asks the reader to reconnect instead. A stream in
another client's wire is forwarded as it arrives, because Pushpin does not hold it.

All API requests come through here, except the next pages of a stream, which Pushpin requests from
the web processes. `config.pushpin.run` starts the proxy with a listening socket.
"""

import asyncio
import os
import re
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

import uvloop
from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    TCPConnector,
    web,
)
from django.conf import settings
from django.http import HttpResponse
from multidict import CIMultiDict
from yarl import URL

from config.listener import BACKLOG
from streams.http.problems import Problem, problem_response
from streams.http.request_limits import HEAD, max_bytes
from streams.http.unavailable import unavailable_response

HELD = re.compile(r"^/api/(conversations/[^/]+/events|streams/next)")  # streams that Pushpin holds
UNREADABLE = b"\n\ndata: {\n\n"
REACH = 5.0  # seconds until a web process has accepted the connection
# RFC 9110 §7.6.1: these fields concern one connection only.
HOP = ("Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade")

AWAY = Problem(
    503,
    "unavailable",
    "The service is unavailable for a moment. Nothing was done.",
    headers={"Retry-After": "1"},
)
CUT_OFF = Problem(
    502,
    "cut_off",
    "The service stopped before it answered, and may have done what you asked. Retry with the same"
    " Idempotency-Key.",
)
NO_GRIP = Problem(
    502, "grip_off", "Pushpin forwards to web processes that were started without GRIP_URL."
)


async def forward(session: ClientSession, request: web.BaseRequest) -> web.StreamResponse:
    """Return the web process's response, or a response in its place.

    Each request has a new connection. A kept connection may close just as the next request is
    sent, and an unsafe request cannot be sent twice.
    """
    # The web process reads no body whose length is over the limit. It refuses the request.
    is_read = request.body_exists and (request.content_length or 0) <= max_bytes(request.path)
    try:
        async with session.request(
            request.method,
            URL(f"http://{settings.PUSHPIN_ORIGIN}{request.raw_path}", encoded=True),
            headers=passed_on(request.headers),
            data=request.content if is_read else None,
            allow_redirects=False,
        ) as answer:
            if answer.content_type == "text/event-stream" and answer.content_length is None:
                if HELD.match(request.path):
                    return to_aiohttp(problem_response(NO_GRIP))  # the stream would not end
                return await pass_on(request, answer)
            body = await answer.read()
    except (ClientConnectorError, ConnectionTimeoutError):
        return stand_in(request, AWAY)
    except (ClientError, TimeoutError):
        return stand_in(request, CUT_OFF)
    return build_response(answer.status, answer.headers, body)


async def pass_on(request: web.BaseRequest, answer: ClientResponse) -> web.StreamResponse:
    """Forward the stream as it arrives. If it breaks, end it with a block that is not JSON.

    If the proxy broke its connection instead, Pushpin would end its own response in order, and
    might drop the last bytes. Most clients would mistake this for the end of the reply. At the
    block without JSON, each client reports an error.
    """
    response = web.StreamResponse(status=answer.status, headers=passed_on(answer.headers))
    response.headers.setdefault("Server", "Unspool")
    await response.prepare(request)
    try:
        async for piece in answer.content.iter_any():
            await response.write(piece)
    except (ClientError, ConnectionError):
        with suppress(ConnectionError):
            await response.write(UNREADABLE)
    return response


def stand_in(request: web.BaseRequest, problem: Problem) -> web.Response:
    """Return the response that replaces the missing response of the web process."""
    origin = request.headers.get("Origin", "")
    return to_aiohttp(unavailable_response(request.method, request.path, origin, problem))


def to_aiohttp(answer: HttpResponse) -> web.Response:
    return build_response(answer.status_code, answer.headers, answer.content)


def build_response(status: int, headers: Mapping[str, str], body: bytes) -> web.Response:
    kept = passed_on(headers)
    kept.setdefault("Server", "Unspool")  # by default aiohttp sends its name and version
    return web.Response(status=status, headers=kept, body=body)


def passed_on(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the headers without those that concern one connection."""
    kept = CIMultiDict(headers)
    for name in HOP:
        kept.popall(name, None)
    return kept


async def serve(sock: socket.socket) -> None:
    """Serve at this listening socket until cancelled."""
    connector = TCPConnector(limit=0, force_close=True)
    async with ClientSession(
        connector=connector,
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        timeout=ClientTimeout(total=None, sock_connect=REACH),
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        max_line_size=HEAD,
        max_field_size=HEAD,
    ) as session:
        server = web.Server(
            partial(forward, session),
            handler_cancellation=True,  # stop when the client disconnects
            access_log=None,
            max_line_size=HEAD,
            max_field_size=HEAD,
        )
        runner = web.ServerRunner(server)
        await runner.setup()
        await web.SockSite(runner, sock, backlog=BACKLOG).start()
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    uvloop.run(serve(socket.socket(fileno=int(sys.argv[1]))))
