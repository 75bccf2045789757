"""The door between Pushpin and the web processes: no stream's reader hears that one has died.

To an EventSource any status but 200 is final, and Pushpin says 502 where a web process is away or
ends before it has answered. So an answer passes here as a whole or not at all, and in its place a
stream's reader is asked to come back. All of the API passes, but for what Pushpin itself asks next.
`config.pushpin.run` starts it, and hands it its socket.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Mapping

import uvloop
from aiohttp import (
    ClientConnectorError,
    ClientError,
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

from config.bounds import BACKLOG, HEAD
from streams.http.bodies import max_bytes
from streams.http.problems import Problem, problem_response
from streams.http.unavailable import unavailable_response

REACH = 5.0  # seconds until a web process has taken a connection
# RFC 9110 §7.6.1: they speak of one connection.
HOP = ("Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade")

AWAY = Problem(
    503,
    "unavailable",
    "The service is away for a moment. Nothing was begun.",
    headers={"Retry-After": "1"},
)
CUT_OFF = Problem(
    502,
    "cut_off",
    "The service ended before it had answered, and may have done what you asked. Ask again with the"
    " same Idempotency-Key.",
)
UNHELD = Problem(
    502, "grip_off", "Pushpin stands before web processes that were started without GRIP_URL."
)


class Proxy:
    """Takes each request to a web process, over a connection of its own.

    One that is kept for the next may be closed just as that is sent, and what changes something
    cannot be sent twice.
    """

    def __init__(self, session: ClientSession, origin: str) -> None:
        self._session = session
        self._origin = origin

    async def take(self, request: web.BaseRequest) -> web.Response:
        try:
            async with self._session.request(
                request.method,
                URL(f"http://{self._origin}{request.raw_path}", encoded=True),
                headers=passed_on(request.headers),
                data=request.content if wanted(request) else None,
                allow_redirects=False,
            ) as answer:
                if answer.content_type == "text/event-stream" and answer.content_length is None:
                    return said(problem_response(UNHELD))  # it would not end
                whole = await answer.read()
        except (ClientConnectorError, ConnectionTimeoutError):
            return instead(request, AWAY)
        except (ClientError, TimeoutError):
            return instead(request, CUT_OFF)
        return answered(answer.status, answer.headers, whole)


def wanted(request: web.BaseRequest) -> bool:
    """Whether the web process will read the body: one that is too long it refuses by its length."""
    return request.body_exists and (request.content_length or 0) <= max_bytes(request.path)


def instead(request: web.BaseRequest, problem: Problem) -> web.Response:
    page = request.headers.get("Origin", "")
    return said(unavailable_response(request.method, request.path, page, problem))


def said(answer: HttpResponse) -> web.Response:
    return answered(answer.status_code, answer.headers, answer.content)


def answered(status: int, headers: Mapping[str, str], whole: bytes) -> web.Response:
    kept = passed_on(headers)
    kept.setdefault("Server", "Unspool")  # else aiohttp names itself, with its version
    return web.Response(status=status, headers=kept, body=whole)


def passed_on(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Those that speak of what is said."""
    kept = CIMultiDict(headers)
    for name in HOP:
        kept.popall(name, None)
    return kept


async def serve(sock: socket.socket) -> None:
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
        door = Proxy(session, settings.PUSHPIN_ORIGIN)
        server = web.Server(
            door.take,
            handler_cancellation=True,  # who has left is not waited for
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
