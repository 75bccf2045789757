"""What the web process answers with: Django, with a lane of its own for streams."""

import asyncio
import math
import os
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from typing import Any, cast

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted, RequestDataTooBig
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import set_script_prefix

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from streams.absence import unanswered  # noqa: E402  # its models exist once Django is set up
from streams.api.bodies import longest  # noqa: E402
from streams.api.waiting import waited  # noqa: E402
from streams.followers import followers  # noqa: E402
from streams.problems import Problem, refusal  # noqa: E402
from streams.sweep import Sweeper  # noqa: E402

HALF = Problem(
    408,
    "request_timeout",
    "The rest of the request did not come.",
    headers={"Connection": "close"},
)
CUT_OFF = Problem(
    503,
    "unavailable",
    "This process ends, and may have done what you asked. Ask again with the same Idempotency-Key.",
    headers={"Retry-After": "1"},
)
LIVE = "/health/live"
STREAM = re.compile(r"^/api/(conversations/[^/]+/events|streams/next)/?$")


class Request(ASGIRequest):
    """A request whose body is bounded by its path, and is let go with its answer."""

    @property
    def body(self) -> bytes:
        """As Django's. Raises `RequestDataTooBig`."""
        if length_of(self.scope) > longest(self.path):
            raise RequestDataTooBig
        return super().body

    def drop_body(self) -> None:
        """Free the body. Django's requests are in cycles with their users, and stay for long."""
        self._body = b""
        self._stream: BytesIO = BytesIO()


class Lane(ASGIHandler):
    """Django, with all that a request asks of it done at once, in one of a few threads.

    The stock handler takes every synchronous middleware to a thread and back, some twenty times a
    request. The thread is the request's own until its response has ended, and so is a database
    connection: a thousand open streams would be a thousand idle threads.
    """

    request_class = Request

    def __init__(self, name: str, *, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, name)
        super().__init__()

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            request, response = await self._answered(scope, receive)
        except RequestAborted:
            return
        except TimeoutError:
            await self.send_response(refusal(HALF), send)
            return
        except asyncio.CancelledError:
            # The process ends, and can wait no longer. uvicorn would say 500.
            await self.send_response(cut_off(scope), send)
            return
        if isinstance(response, StreamingHttpResponse):
            try:
                await unless_gone(self.send_response(response, send), receive)
            finally:
                response.close()
            return
        if response.status_code == 202:
            with suppress(asyncio.CancelledError):  # the process ends: accepted it is
                await unless_gone(waited(request, response), receive)
        await self.send_response(response, send)

    async def _answered(
        self, scope: Scope, receive: Receive
    ) -> tuple[Request, HttpResponse | StreamingHttpResponse]:
        body = await self.read_body(in_time(receive)) if wanted(scope) else BytesIO()
        made = cast("tuple[Request, HttpResponse | None]", self.create_request(scope, body))
        request, refused = made
        return request, refused or await self._in_thread(request)

    async def _in_thread(self, request: Request) -> HttpResponse | StreamingHttpResponse:
        answer = sync_to_async(self._answer, thread_sensitive=False, executor=self._threads)
        return await answer(request)

    def _answer(self, request: Request) -> HttpResponse | StreamingHttpResponse:
        set_script_prefix(get_script_prefix(request.scope))
        signals.request_started.send(sender=self.__class__, scope=request.scope)
        try:
            response = cast("HttpResponse | StreamingHttpResponse", self.get_response(request))
            if isinstance(response, StreamingHttpResponse) and not response.is_async:
                return whole(response)
            if response.status_code == 204:  # it has no body to speak of: RFC 9110 §8.6
                del response["Content-Length"], response["Content-Type"]
            return response
        finally:
            request.close()
            request.drop_body()
            # This thread's connections are free, however long the response lasts.
            signals.request_finished.send(sender=self.__class__)


def cut_off(scope: Scope) -> HttpResponse:
    page = dict(scope["headers"]).get(b"origin", b"").decode("latin-1")
    return unanswered(scope["method"], scope["path"], page, CUT_OFF)


def wanted(scope: Scope) -> bool:
    """Whether to wait for the body: one that is too long, or does not say how long, is refused."""
    chunked = b"transfer-encoding" in dict(scope["headers"])
    return not chunked and length_of(scope) <= longest(scope["path"])


def length_of(scope: Mapping[str, Any]) -> float:
    """The bytes that the request announces."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else math.inf


def in_time(receive: Receive) -> Receive:
    """To hear the next piece of a body, or `TimeoutError`."""

    async def next_piece() -> Mapping[str, Any]:
        async with asyncio.timeout(settings.CONNECTION_TIMEOUT):
            return await receive()

    return next_piece


async def unless_gone(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Do it, but no longer than whoever asked for it is there."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
    if not working.cancelled():
        working.result()


async def gone(receive: Receive) -> None:
    """Wait for his leaving. What comes before is a body that nobody wanted."""
    while (await receive())["type"] != "http.disconnect":
        pass


def whole(response: StreamingHttpResponse) -> HttpResponse:
    """A file's response, with the file in it."""
    read = HttpResponse(b"".join(response), status=response.status_code)
    read.headers, read.cookies = response.headers, response.cookies
    response.close()
    return read


async def lifespan(receive: Receive, send: Send) -> None:
    followers()  # else two lanes' threads could each make its own, of which only one is drained
    Sweeper().start()  # of every process that lives: no single one must not die
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


# An opening stream waits for nobody but the database: more threads would only take turns. Of
# requests, each may wait for a Redis that does not answer.
streams = Lane("stream", threads=4)
plain = Lane("request", threads=64)
alive = Lane("alive", threads=1)  # waits for nobody: who restarts what is silent asks here


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI 3: HTTP and lifespan."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        path = scope["path"]
        lane = alive if path == LIVE else streams if STREAM.match(path) else plain
        await lane(scope, receive, send)
