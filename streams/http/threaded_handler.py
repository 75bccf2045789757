"""An ASGI handler with its own thread pool, so that one kind of request cannot block another."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from threading import Lock
from typing import Any, TypeVar, cast

from asgiref.sync import sync_to_async
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import set_script_prefix

from streams.http.disconnect import StreamBroken, break_connection, run_while_connected
from streams.http.event_stream import EventStreamResponse
from streams.http.lock_wait import in_request
from streams.http.pending_response import PendingResponse
from streams.http.problems import Problem
from streams.http.refusals import refusal
from streams.http.request import Receive, Request, Scope, Send, read_in_time, wants_body
from streams.http.unavailable import unavailable_response

T = TypeVar("T")
Completion = Callable[[Request, HttpResponse], Coroutine[Any, Any, None]]
REQUEST_TIMEOUT = Problem(
    408,
    "request_timeout",
    "The rest of the request did not arrive in time.",
    headers={"Connection": "close"},
)
CUT_OFF = Problem(
    503,
    "unavailable",
    "The server is stopping and may have done what you asked. Retry with the same Idempotency-Key.",
    headers={"Retry-After": "1"},
)
OVERLOADED = Problem(
    503,
    "unavailable",
    "Too many requests wait for the database. Nothing was done: retry in a few seconds.",
    headers={"Retry-After": "5"},
)
TURN = 5.0  # seconds that a request waits for a thread, in a handler with a bounded queue


class ThreadedHandler(ASGIHandler):
    """Django's handler; middleware and view of a request run in one go, in one of a few threads.

    Django's own handler switches to a thread and back for each synchronous middleware, about twenty
    times a request. It also keeps a thread and a database connection until the response has ended.
    A thousand open streams would keep a thousand idle threads.

    `waiting` bounds the requests that may wait for a thread. Further ones are refused with 503.
    `complete` may turn a 202 into the result, for as long as the client stays connected.
    """

    request_class = Request

    def __init__(
        self,
        name: str,
        *,
        threads: int,
        waiting: int | None = None,
        complete: Completion | None = None,
    ) -> None:
        self._threads = ThreadPoolExecutor(threads, name)
        self._capacity = None if waiting is None else threads + waiting  # requests at once
        self._active = 0
        self._complete = complete
        super().__init__()

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            request, response = await self._process(scope, receive)
        except RequestAborted:
            return
        except TimeoutError:
            await self.send_response(refusal(scope["path"], REQUEST_TIMEOUT), send)
            return
        except Overloaded:
            await self.send_response(refused_early(scope, OVERLOADED), send)
            return
        except asyncio.CancelledError:
            # The process is stopping and cannot wait longer. uvicorn would answer with 500.
            await self.send_response(refused_early(scope, CUT_OFF), send)
            return
        if isinstance(response, StreamingHttpResponse):
            if isinstance(response, EventStreamResponse) and not response.is_replaced:
                response.connect(scope, send)
                request.drop_all()
                sending = response.send(send)
            else:
                sending = self.send_response(response, send)
            try:
                await run_while_connected(sending, receive)
            except (StreamBroken, asyncio.CancelledError):  # such as a client that does not read
                await break_connection(scope)
            finally:
                response.close()
            return
        if isinstance(response, PendingResponse):
            try:
                with suppress(asyncio.CancelledError):  # the process is stopping
                    await run_while_connected(response.complete(), receive)
                await self.send_response(response, send)
            finally:
                response.close()
            return
        if response.status_code == 202 and self._complete:
            with suppress(asyncio.CancelledError):  # the process is stopping: answer 202 at once
                await run_while_connected(self._complete(request, response), receive)
        await self.send_response(response, send)

    async def _process(
        self, scope: Scope, receive: Receive
    ) -> tuple[Request, HttpResponse | StreamingHttpResponse]:
        wanted = wants_body(scope)
        body = await read_in_time(self.read_body, receive) if wanted else BytesIO()
        created = cast("tuple[Request, HttpResponse | None]", self.create_request(scope, body))
        request, refusal = created
        return request, refusal or await self.respond(request)

    async def respond(self, request: Request) -> HttpResponse | StreamingHttpResponse:
        """Return the response, made in a thread. Raises `Overloaded`."""
        if self._capacity is None:
            return await self._submit(self._answer, request)
        if self._active >= self._capacity:
            request.close()
            raise Overloaded
        turn = Lock()  # either the request's thread takes it, or this coroutine stops waiting
        answering = asyncio.ensure_future(self._submit(self._answer_unless_late, request, turn))
        self._active += 1
        answering.add_done_callback(self._leave)
        try:
            await asyncio.wait({answering}, timeout=TURN)
        except asyncio.CancelledError:
            turn.acquire(blocking=False)
            answering.cancel()
            raise
        if not answering.done() and turn.acquire(blocking=False):
            raise Overloaded
        return await answering

    async def _submit(self, answer: Callable[..., T], *arguments: object) -> T:
        in_thread = sync_to_async(answer, thread_sensitive=False, executor=self._threads)
        return await in_thread(*arguments)

    def _leave(self, _: object) -> None:
        self._active -= 1

    def _answer_unless_late(
        self, request: Request, turn: Lock
    ) -> HttpResponse | StreamingHttpResponse:
        if turn.acquire(blocking=False):
            return self._answer(request)
        request.close()
        return HttpResponse()  # unused: the caller was refused before a thread was free

    def _answer(self, request: Request) -> HttpResponse | StreamingHttpResponse:
        in_request.set(True)
        set_script_prefix(get_script_prefix(request.scope))
        signals.request_started.send(sender=self.__class__, scope=request.scope)
        try:
            response = cast("HttpResponse | StreamingHttpResponse", self.get_response(request))
            if isinstance(response, StreamingHttpResponse) and not response.is_async:
                return read_whole(response)
            if response.status_code == 204:  # no Content-Length in a 204: RFC 9110 §8.6
                del response["Content-Length"], response["Content-Type"]
            return response
        finally:
            request.close()
            request.drop_body()
            # Free this thread's database connections now: a stream's response may last for hours.
            signals.request_finished.send(sender=self.__class__)


class Overloaded(Exception):
    """Too many requests wait for a thread, or this one waited too long. Its view did not run."""


def refused_early(scope: Scope, problem: Problem) -> HttpResponse:
    """Return the response to a request that no view has answered."""
    page = dict(scope["headers"]).get(b"origin", b"").decode("latin-1")
    return unavailable_response(scope["method"], scope["path"], page, problem)


def read_whole(response: StreamingHttpResponse) -> HttpResponse:
    """Return the response with the whole file as its content."""
    whole = HttpResponse(b"".join(response), status=response.status_code)
    whole.headers, whole.cookies = response.headers, response.cookies
    response.close()
    return whole
